"""Mask learning: the objective's gradient, bounds, determinism, and that it keeps the nodes and edges that a loss needs."""

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits import MaskConfig, Objective
from sparse_circuits.circuits.discovery.discover import MaskStep, initial_mask, learn_mask, schedule
from sparse_circuits.circuits.discovery.units import Units, edge_units, node_units, tied_qk
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.nodes import by_site
from sparse_circuits.circuits.norms import FrozenNorms, Norms
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import Node
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import PairBatch, Scoring
from tests.circuits.planted import CONFIG, planted_means, planted_model, planted_pairs

NO_PAIRS = PairBatch(
    torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, dtype=torch.long), torch.zeros(1, 2, 1).long(), Scoring.pair
)


def test_first_step_follows_the_gradient_of_both_terms() -> None:
    """AdamW's first step is the learning rate times the gradient's sign; the unit count's gradient is k_coef s (1 - s)."""
    mask = torch.full((3,), 0.1, dtype=torch.float64)
    s = torch.sigmoid(mask[0])
    count = 1e-3 * (s * (1 - s)).item()
    pull = torch.tensor([1.5 * count, 0.5 * count, 0.0], dtype=torch.float64)
    config = MaskConfig(lr=0.01, weight_decay=0.0, warmup=0.0, k_coef=1e-3)
    step = MaskStep(mask.clone(), lambda mask, batch: -(pull * mask).sum(), config, 9, torch.arange(3))
    metrics = step(NO_PAIRS, index=0)
    moved = (step.mask.detach() - mask) / (config.lr * schedule(0.1, warmup=0.0))
    torch.testing.assert_close(moved.sign(), torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    torch.testing.assert_close(moved.abs(), torch.ones(3, dtype=torch.float64), rtol=1e-3, atol=0)
    assert metrics["n_units"] == 3


def test_tied_units_share_a_parameter_and_count_each() -> None:
    """Two units of one parameter that pull against each other: what moves it is their sum, and the cost of both."""
    pull, tie = torch.tensor([3.0, -1.0, 0.0]), torch.tensor([0, 0, 1])
    config = MaskConfig(k_coef=0.1, max_gradient_norm=1e9)
    step = MaskStep(torch.tensor([0.1, 0.2]), lambda mask, batch: (pull * mask).sum(), config, 9, tie)
    metrics = step(NO_PAIRS, index=0)
    s = torch.sigmoid(torch.tensor([0.1, 0.2]))
    torch.testing.assert_close(step.mask.grad, torch.tensor([2.0, 0.0]) + 0.1 * torch.tensor([2, 1]) * s * (1 - s))
    assert metrics["n_units"] == 3 and abs(metrics["loss"] - 0.2) < 1e-6


def test_masks_stay_within_one_and_useless_units_go() -> None:
    def task_loss(mask: Tensor, batch: PairBatch) -> Tensor:
        return -mask[:2].sum()

    step = MaskStep(torch.full((5,), 0.1), task_loss, MaskConfig(lr=0.2), 100, torch.arange(5))
    for index in range(100):
        step(NO_PAIRS, index=index)
    assert step.mask.abs().max() <= 1
    assert (step.mask > 0).tolist() == [True, True, False, False, False]


def test_long_gradients_are_scaled_down() -> None:
    config = MaskConfig(max_gradient_norm=0.5)
    step = MaskStep(torch.full((4,), 0.1), lambda mask, batch: 1e6 * mask.sum(), config, 9, torch.arange(4))
    step(NO_PAIRS, index=0)
    assert abs(step.mask.grad.norm() - 0.5) < 1e-5


def test_schedule_warms_up_and_falls_to_zero() -> None:
    assert [schedule(p, warmup=0.2) for p in (0.1, 0.2, 0.6, 1.0)] == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_starts_with_every_unit_on() -> None:
    mask = initial_mask(500, MaskConfig(), seed=0)
    assert (mask > 0).all() and abs(mask.mean() - 0.1) < 0.01
    noisy = initial_mask(500, MaskConfig(init_noise_scale=3.0), seed=0)
    assert noisy.min() == -1 and noisy.max() == 1


@pytest.mark.parametrize("objective", Objective)
def test_same_seed_same_mask_and_the_model_is_untouched(objective: Objective) -> None:
    model = planted_model().requires_grad_(True)  # even a model that could learn
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    config = MaskConfig(objective=objective, n_pairs=8)
    pairs, units = planted_pairs(16), node_units(model, planted_means(model), config)
    masks = [learn_mask(model, pairs, units, config=config, n_steps=4, seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())
    assert all(weight.grad is None for weight in model.parameters())


def test_a_step_sees_units_that_it_does_not_remove_as_on() -> None:
    """Hand-made units that do nothing but look at their mask, most of which begins switched off."""
    seen: list[Tensor] = []

    def masked(mask: Tensor) -> Taps:
        seen.append(mask.detach().clone())
        return {"final_resid": lambda value: value + 0 * mask.sum()}

    model, shares = planted_model(), {}
    for objective in (Objective.full, Objective.partial):
        config = MaskConfig(objective=objective, init_noise_bias=-0.5, init_noise_scale=0.1, k_coef=0.0, weight_decay=0.0)
        learn_mask(model, planted_pairs(8), Units(50, masked, masked), config=config, n_steps=20)
        own = initial_mask(50, config, seed=0)
        for mask in seen:
            is_spared = mask == 1
            torch.testing.assert_close(mask[~is_spared], own[~is_spared])
        shares[objective] = [(mask == 1).double().mean().item() for mask in seen]
        seen.clear()
    assert shares[Objective.full] == [0.0] * 20
    assert min(shares[Objective.partial]) < 0.2 and max(shares[Objective.partial]) > 0.8


@pytest.mark.parametrize(("norms", "least", "most"), [(Norms.free, 0, 0), (Norms.frozen, 20, 20), (Norms.both, 3, 17)])
def test_steps_freeze_norms_always_never_or_now_and_then(
    norms: Norms, least: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, config, pairs = planted_model(), MaskConfig(norms=norms, n_pairs=4), planted_pairs(8)
    unpruned, frozen = FrozenNorms(model, pairs), []

    def of(numbers: Tensor) -> FrozenNorms:
        frozen.append(numbers.tolist())
        return FrozenNorms.of(unpruned, numbers)

    monkeypatch.setattr(unpruned, "of", of)
    units = node_units(model, planted_means(model), config)
    learn_mask(model, pairs, units, config=config, n_steps=20, unpruned=unpruned)
    assert least <= len(frozen) <= most and all(len(set(numbers)) == 4 for numbers in frozen)
    assert norms is Norms.free or set().union(*frozen) == set(range(8))


def test_tied_nodes_have_equal_masks() -> None:
    model = planted_model()
    units = node_units(model, planted_means(model), MaskConfig())
    mask = learn_mask(model, planted_pairs(16), units, config=MaskConfig(), n_steps=3, tie=tied_qk(CONFIG))
    sites = by_site(mask, CONFIG)
    assert torch.equal(sites["0.attn.q"], sites["0.attn.k"]) and not torch.equal(sites["0.attn.q"], sites["0.attn.v"])


@pytest.mark.parametrize("objective", Objective)
def test_nodes_that_answer_stay_and_those_that_do_nothing_go(objective: Objective) -> None:
    """The way to the answer through its narrowest places, which no other node can stand in for."""
    model = planted_model()
    config = MaskConfig(objective=objective, lr=0.04)
    units = node_units(model, planted_means(model), config)
    mask = learn_mask(model, planted_pairs(32), units, config=config, n_steps=40)
    sites = by_site(mask, CONFIG)
    assert sites["0.mlp.act_in"][0] > 0
    idle = [sites[f"0.attn.{name}"] for name in ("act_in", "q", "k", "v", "resid_delta")]
    assert max(site.max() for site in [*idle, sites["0.mlp.post_act"][6:], sites["final_resid"][3:]]) < 0


@pytest.mark.parametrize("objective", Objective)
def test_an_edge_that_carries_the_answer_survives_and_a_useless_one_goes(objective: Objective) -> None:
    model = planted_model()
    model.layers[0].mlp.into.weight[0, 6] = 0.01
    nodes = {"0.mlp.act_in": [0, 6], "0.mlp.post_act": [0, 1], "0.mlp.resid_delta": [1], "final_resid": [1]}
    subgraph = Subgraph.whole(model, nodes)
    config = MaskConfig(objective=objective, lr=0.04)
    generator = torch.Generator().manual_seed(0)
    units = edge_units(model, planted_means(model), config, subgraph, generator=generator)
    mask = learn_mask(model, planted_pairs(32), units, config=config, n_steps=40)
    useless = subgraph.edges.index(Edge(Node("0.mlp.act_in", 6), Node("0.mlp.post_act", 0), 0.01))
    assert len(mask) == len(subgraph.edges) == 5
    assert mask[useless] < 0 and all(mask[edge] > 0 for edge in range(5) if edge != useless)
