"""Budgets, schedules and the projection: exact counts at every step."""

import dataclasses
import re

import pytest
import torch

from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.sparsity import Anneal, SparsityConfig, density, l0_counts, project_, sparse_budgets
from sparse_circuits.sparsity.measure import dead_fractions, l0_of

SHAPE = ModelConfig(n_layers=1, d_model=32, d_head=8, n_ctx=8)


@pytest.fixture
def model() -> Transformer:
    return Transformer(SHAPE, d_vocab=60)


def test_every_matrix_keeps_the_same_share_and_dense_parameters_are_left_out(model: Transformer) -> None:
    budgets = sparse_budgets(model, SparsityConfig(l0_fraction=0.25))
    for name, p in model.named_parameters():
        if name in budgets:
            assert budgets[name].target == round(0.25 * p.numel())
        else:
            assert name == "bigram" or name.endswith(("gain", "sink"))


def test_expansion_thins_matrices_by_its_square_and_the_rest_by_itself(model: Transformer) -> None:
    budgets = sparse_budgets(model, SparsityConfig(l0_fraction=1.0, expansion=2.0))
    assert budgets["layers.0.mlp.into.weight"].target == 32 * 128 // 4
    assert budgets["embed.weight"].target == 60 * 32 // 2
    assert budgets["layers.0.mlp.into.bias"].target == 128 // 2


@pytest.mark.parametrize("expansion", [1.0, 2.0])
def test_an_absolute_l0_is_met_up_to_rounding(model: Transformer, expansion: float) -> None:
    budgets = sparse_budgets(model, SparsityConfig(l0=2_500, expansion=expansion, floor=0))
    assert abs(sum(budget.target for budget in budgets.values()) - 2_500) <= len(budgets) / 2


def test_projection_is_exact_all_along_the_anneal(model: Transformer) -> None:
    config = SparsityConfig(l0_fraction=0.15)
    budgets = sparse_budgets(model, config)
    for progress in torch.linspace(0, 1, 21).tolist():
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        remaining = density(progress, config, target_share=0.15)
        project_(model, budgets, density=remaining)
        assert l0_counts(model) == {name: budget.at(remaining) for name, budget in budgets.items()}
        for name, budget in budgets.items():
            if budget.floor:
                kept = dict(model.named_parameters())[name] != 0
                assert kept.sum(1 - budget.neuron_axis).min() >= budget.floor


def test_linear_anneal_is_a_line_between_its_ends() -> None:
    config = SparsityConfig(anneal=Anneal.linear, anneal_start=0.1, anneal_end=0.5)
    found = [density(p, config, target_share=0.1) for p in (0.0, 0.1, 0.3, 0.5, 1.0)]
    assert found == pytest.approx([1, 1, 0.5, 0, 0])


def test_power_law_is_straight_in_log_log() -> None:
    config = SparsityConfig(anneal=Anneal.power_law, anneal_start=0.01, anneal_end=0.64)
    target = 1 / 64
    shares = [target + density(p, config, target_share=target) * (1 - target) for p in (0.01, 0.02, 0.08, 0.64)]
    assert shares == pytest.approx([1, 1 / 2, 1 / 8, 1 / 64])


def test_no_anneal_is_sparse_from_the_first_step() -> None:
    assert density(0.0, SparsityConfig(anneal=Anneal.none), target_share=0.1) == 0


def test_l0_leaves_out_the_bigram_table_only(model: Transformer) -> None:
    counted = l0_of(model)
    everything = sum(p.numel() for name, p in model.named_parameters() if name != "bigram")
    biases = sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias"))
    assert counted.total == everything
    assert counted.nonzero == everything - biases
    assert counted.fraction == pytest.approx(counted.nonzero / everything)


def test_dead_neurons_are_counted(model: Transformer) -> None:
    with torch.no_grad():
        model.layers[0].mlp.into.weight[:32] = 0
    tokens = torch.randint(60, (8, 8))
    dead = dead_fractions(model, [tokens[:4], tokens[4:]])
    assert dead["mlp.post_act"] >= 0.25
    assert dead["final_resid"] == 0


@pytest.mark.parametrize("setting", ["l0_fraction", "l0", "floor"])
@pytest.mark.parametrize("expansion", [1.0, 1.5])
def test_the_remedy_for_a_budget_below_the_floor_works(setting: str, expansion: float) -> None:
    model = Transformer(dataclasses.replace(SHAPE, d_model=48), d_vocab=60)  # 4 of 48 is no share of a few digits
    config = SparsityConfig(l0=1_200 if setting == "l0" else None, l0_fraction=0.05, expansion=expansion)
    with pytest.raises(UserError) as refused:
        sparse_budgets(model, config)
    (number,) = re.findall(rf"{setting} to ([\d.,]*\d)", str(refused.value))
    number = number.replace(",", "")
    sparse_budgets(model, dataclasses.replace(config, **{setting: float(number) if setting == "l0_fraction" else int(number)}))


def test_where_no_budget_is_large_enough_only_the_floor_is_named(model: Transformer) -> None:
    for config in (SparsityConfig(expansion=4.0), SparsityConfig(l0=1_200, floor=200)):
        with pytest.raises(UserError, match=r"needs [\d,]+: lower sparsity.floor to \d+\."):
            sparse_budgets(model, config)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"l0_fraction": 0.01}, "raise l0_fraction to 0.125"),
        ({"l0": 1_200}, "raise sparsity.l0 to 2,052"),
        ({"l0_fraction": 0.0}, "give a share above 0"),
        ({"l0_fraction": 1e-9, "floor": 0}, "l0_fraction = 1e-09 leaves no nonzero in any tensor: raise it"),
        ({"l0": 1, "floor": 0}, "sparsity.l0 = 1 leaves no nonzero in any tensor: raise it"),
        ({"l0": 10**9}, "more entries than a tensor has"),
        ({"anneal_start": 0.6}, "no interval"),
        ({"anneal": Anneal.power_law, "anneal_start": 0.0}, "cannot start at 0"),
        ({"expansion": 0.5}, "give 1 or more"),
    ],
)
def test_bad_settings_are_refused(model: Transformer, change: dict, says: str) -> None:
    with pytest.raises(UserError, match=says):
        sparse_budgets(model, dataclasses.replace(SparsityConfig(), **change))
