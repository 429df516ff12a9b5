"""Ablation taps: kept nodes keep their value, the others are replaced, everywhere."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.ablate import Ablation, ablation_taps, mask_taps, soft_taps, stand_in
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import by_site, count_nodes
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer, node_sites, record, site_width
from sparse_circuits.model.taps import chain

CONFIG = ModelConfig(n_layers=2, d_model=16, n_ctx=8, d_head=4)


@pytest.fixture
def model() -> Transformer:
    return Transformer(CONFIG, d_vocab=30).double().requires_grad_(False)


@pytest.fixture
def means() -> Means:
    sample = torch.randint(30, (4, 8), dtype=torch.int32)
    return Means({s: torch.randn(site_width(CONFIG, s), dtype=torch.float64) for s in node_sites(CONFIG)}, 1, "", sample)


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(30, (3, 7))


def half() -> Tensor:
    return torch.rand(count_nodes(CONFIG)) < 0.5


@pytest.mark.parametrize("ablation", [Ablation.mean, Ablation.zero])
def test_every_node_outside_is_replaced(model: Transformer, means: Means, tokens: Tensor, ablation: Ablation) -> None:
    kept = half()
    values = record(model, tokens, node_sites(CONFIG), taps=ablation_taps(kept, stand_in(ablation, model, means), CONFIG))
    whole = record(model, tokens, "0.attn.act_in")["0.attn.act_in"]
    for site, row in by_site(kept, CONFIG).items():
        expected = means.sites[site][~row] if ablation is Ablation.mean else torch.zeros(int((~row).sum()))
        assert torch.equal(values[site][..., ~row], expected.double().expand(3, 7, -1)), site
    row = by_site(kept, CONFIG)["0.attn.act_in"]
    assert torch.equal(values["0.attn.act_in"][..., row], whole[..., row])


def test_resampled_nodes_have_the_values_of_one_pretraining_position_each(
    model: Transformer, means: Means, tokens: Tensor
) -> None:
    nothing = torch.zeros(count_nodes(CONFIG), dtype=torch.bool)
    taps = ablation_taps(nothing, stand_in(Ablation.resample, model, means, seed=1), CONFIG)
    drawn, again = (record(model, tokens, node_sites(CONFIG), taps=taps) for _ in range(2))
    seen = record(model, means.sample, node_sites(CONFIG))
    for site, rows in drawn.items():
        equal = (rows.flatten(0, 1).unsqueeze(1) == seen[site].flatten(0, 1)).all(-1)
        assert equal.any(1).all(), site
        positions = equal.int().argmax(1)
        assert len(positions.unique()) > 8 and not torch.equal(rows, again[site]), site
    same = stand_in(Ablation.resample, model, means, seed=1)
    assert all(torch.equal(same(site, rows), drawn[site]) for site, rows in drawn.items())
    with pytest.raises(UserError, match="measure the means again"):
        stand_in(Ablation.resample, model, means._replace(sample=None))


def test_the_whole_circuit_is_the_model_and_the_empty_one_is_the_bigram_table(
    model: Transformer, means: Means, tokens: Tensor
) -> None:
    everything = torch.ones(count_nodes(CONFIG), dtype=torch.bool)
    assert ablation_taps(everything, means, CONFIG) == {}
    constant = model(tokens, taps=ablation_taps(~everything, means, CONFIG)) - model.bigram[tokens]
    torch.testing.assert_close(constant, constant[0, 0].expand_as(constant))


@pytest.mark.parametrize("ablation", Ablation)
def test_masks_shares_and_kept_nodes_agree(model: Transformer, means: Means, tokens: Tensor, ablation: Ablation) -> None:
    mask = torch.randn(count_nodes(CONFIG), dtype=torch.float64)
    other = [stand_in(ablation, model, means, seed=2) for _ in range(3)]
    expected = model(tokens, taps=ablation_taps(mask > 0, other[0], CONFIG))
    torch.testing.assert_close(model(tokens, taps=mask_taps(mask, other[1], CONFIG, temperature=1.0)), expected)
    torch.testing.assert_close(model(tokens, taps=soft_taps((mask > 0).double(), other[2], CONFIG)), expected)


def test_a_share_of_a_node_is_the_value_between(model: Transformer, means: Means, tokens: Tensor) -> None:
    share = torch.ones(count_nodes(CONFIG), dtype=torch.float64)
    by_site(share, CONFIG)["0.mlp.post_act"][:] = 0.25
    found = record(model, tokens, "0.mlp.post_act", taps=soft_taps(share, means, CONFIG))["0.mlp.post_act"]
    value = record(model, tokens, "0.mlp.post_act")["0.mlp.post_act"]
    torch.testing.assert_close(found, 0.25 * value + 0.75 * means.sites["0.mlp.post_act"])


@pytest.mark.parametrize("ablation", [Ablation.mean, Ablation.zero])
def test_the_gradient_of_shares_is_that_of_finite_differences(
    model: Transformer, means: Means, tokens: Tensor, ablation: Ablation
) -> None:
    other, weight = stand_in(ablation, model, means), torch.randn(30, dtype=torch.float64)
    share = (0.2 + 0.6 * torch.rand(count_nodes(CONFIG), dtype=torch.float64)).requires_grad_()

    def objective(share: Tensor) -> Tensor:
        return (model(tokens, taps=soft_taps(share, other, CONFIG)) * weight).sum()

    (gradient,) = torch.autograd.grad(objective(share), share)
    for node in gradient.abs().argsort()[-3:]:
        step = torch.zeros_like(share).index_fill(0, node, 1e-6)
        slope = (objective(share + step) - objective(share - step)) / 2e-6
        torch.testing.assert_close(gradient[node], slope.detach(), rtol=1e-4, atol=1e-8)


def test_ablating_one_part_behind_the_other_is_ablating_both(model: Transformer, means: Means, tokens: Tensor) -> None:
    first, second = half(), half()
    chained = chain(*(ablation_taps(kept, means, CONFIG) for kept in (first, second)))
    torch.testing.assert_close(model(tokens, taps=chained), model(tokens, taps=ablation_taps(first & second, means, CONFIG)))
    assert chain() == {}


def test_the_masks_gradient_is_the_effect_of_the_node(model: Transformer, means: Means, tokens: Tensor) -> None:
    """Turning a switched-on node of the last site slightly down changes the logits by gradient / slope."""
    mask = torch.ones(count_nodes(CONFIG), dtype=torch.float64, requires_grad=True)
    taps = mask_taps(mask, means, CONFIG, temperature=1.0)
    weight = torch.randn(30, dtype=torch.float64)
    at = torch.full((3,), 6)

    def objective(logits: Float[Tensor, "batch d_vocab"]) -> Tensor:
        return (logits * weight).sum()

    (gradient,) = torch.autograd.grad(objective(model(tokens, taps=taps, at=at)), mask)
    channel, step = 5, 1e-6
    mean = means.sites["final_resid"][channel]

    def nudged(value: Tensor) -> Tensor:
        value = value.clone()
        value[..., channel] += step * (value[..., channel] - mean)
        return value

    change = objective(model(tokens, taps={"final_resid": nudged}, at=at)) - objective(model(tokens, at=at))
    soft = torch.sigmoid(torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(
        by_site(gradient, CONFIG)["final_resid"][channel], soft * (1 - soft) * change / step, rtol=1e-4, atol=1e-9
    )
