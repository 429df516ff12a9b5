"""Ablation taps: kept nodes keep their value, the others stand at their mean, everywhere."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps, mask_taps
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import by_site, count_nodes
from sparse_circuits.model import ModelConfig, Transformer, node_sites, record, site_width

CONFIG = ModelConfig(n_layers=2, d_model=16, n_ctx=8, d_head=4)


@pytest.fixture
def model() -> Transformer:
    return Transformer(CONFIG, d_vocab=30).double().requires_grad_(False)


@pytest.fixture
def means() -> Means:
    return Means({s: torch.randn(site_width(CONFIG, s), dtype=torch.float64) for s in node_sites(CONFIG)}, 1, "")


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(30, (3, 7))


def test_every_node_outside_stands_at_its_mean(model: Transformer, means: Means, tokens: Tensor) -> None:
    kept = torch.rand(count_nodes(CONFIG)) < 0.5
    values = record(model, tokens, node_sites(CONFIG), taps=ablation_taps(kept, means, CONFIG))
    whole = record(model, tokens, "0.attn.act_in")["0.attn.act_in"]
    for site, row in by_site(kept, CONFIG).items():
        assert torch.equal(values[site][..., ~row], means.sites[site][~row].expand(3, 7, -1)), site
    row = by_site(kept, CONFIG)["0.attn.act_in"]
    assert torch.equal(values["0.attn.act_in"][..., row], whole[..., row])


def test_the_whole_circuit_is_the_model_and_the_empty_one_is_the_bigram_table(
    model: Transformer, means: Means, tokens: Tensor
) -> None:
    everything = torch.ones(count_nodes(CONFIG), dtype=torch.bool)
    assert ablation_taps(everything, means, CONFIG) == {}
    constant = model(tokens, taps=ablation_taps(~everything, means, CONFIG)) - model.bigram[tokens]
    torch.testing.assert_close(constant, constant[0, 0].expand_as(constant))


def test_masks_and_kept_nodes_agree(model: Transformer, means: Means, tokens: Tensor) -> None:
    mask = torch.randn(count_nodes(CONFIG), dtype=torch.float64)
    masked = model(tokens, taps=mask_taps(mask, means, CONFIG, temperature=1.0))
    torch.testing.assert_close(masked, model(tokens, taps=ablation_taps(mask > 0, means, CONFIG)))


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
