"""Baselines: attributions by finite differences, integrated gradients complete, rankings that find a circuit."""

import pytest
import torch

from sparse_circuits.circuits.ablate import soft_taps
from sparse_circuits.circuits.discovery.baselines import Baseline, attributions, rank_nodes
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import count_nodes
from sparse_circuits.model import ModelConfig, Transformer, node_sites, site_width
from sparse_circuits.tasks import PairBatch, Scoring, right_margins

CONFIG = ModelConfig(n_layers=1, d_model=16, n_ctx=8, d_head=4, abs_topk=1.0)


@pytest.fixture
def model() -> Transformer:
    return Transformer(CONFIG, d_vocab=30).double().requires_grad_(False)


@pytest.fixture
def means() -> Means:
    return Means({s: torch.randn(site_width(CONFIG, s), dtype=torch.float64) for s in node_sites(CONFIG)}, 1, "")


@pytest.fixture
def batch() -> PairBatch:
    return PairBatch(torch.randint(30, (6, 5)), torch.full((6,), 4), torch.tensor([[[1], [2]]] * 3), Scoring.pair)


def margin(model: Transformer, batch: PairBatch, means: Means, shares: torch.Tensor) -> float:
    return right_margins(answer_margins(model, batch, taps=soft_taps(shares, means, CONFIG))).mean().item()


def test_an_attribution_is_what_a_little_less_of_the_node_would_change(
    model: Transformer, batch: PairBatch, means: Means
) -> None:
    found = attributions(model, batch, means)
    for node in found.abs().argsort(descending=True)[:5].tolist():
        shares = torch.ones(count_nodes(CONFIG), dtype=torch.float64)
        shares[node] -= 1e-6
        change = margin(model, batch, means, torch.ones_like(shares)) - margin(model, batch, means, shares)
        assert found[node].item() == pytest.approx(change / 1e-6, rel=1e-3)


def test_integrated_gradients_add_up_to_the_whole_difference(model: Transformer, batch: PairBatch, means: Means) -> None:
    """Completeness: along a straight way, the derivatives' mean is the difference of its ends."""
    points = (torch.arange(200) + 0.5) / 200
    ones = torch.ones(count_nodes(CONFIG), dtype=torch.float64)
    total = torch.stack([attributions(model, batch, means, point * ones) for point in points]).mean(0).sum().item()
    whole = margin(model, batch, means, ones) - margin(model, batch, means, 0 * ones)
    assert total == pytest.approx(whole, abs=0.02 * max(1, abs(whole)))


@pytest.mark.parametrize("baseline", Baseline)
def test_a_ranking_has_a_score_for_every_node_and_no_chance_but_its_seed(
    model: Transformer, batch: PairBatch, means: Means, baseline: Baseline
) -> None:
    ranks = [rank_nodes(baseline, model, batch, means, seed=seed) for seed in (1, 1, 2)]
    assert ranks[0].shape == (count_nodes(CONFIG),) and (ranks[0] >= 0).all()
    assert torch.equal(ranks[0], ranks[1])
    assert torch.equal(ranks[0], ranks[2]) == (baseline is not Baseline.random)
