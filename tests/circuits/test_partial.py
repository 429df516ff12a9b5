"""Partial ablation: from every prompt its own part, the same from both prompts of a pair, from nothing to everything."""

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.cuts import cut_taps, cuts_of
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import count_nodes, mark, offsets
from sparse_circuits.circuits.partial import draw_parts, partial_taps
from sparse_circuits.circuits.subgraph import Subgraph, cut_edges, subgraph_taps
from sparse_circuits.model import Node, Transformer, node_sites, record, site_width
from sparse_circuits.model.taps import NO_TAPS, chain
from sparse_circuits.tasks import PairBatch
from tests.circuits.random_pairs import random_pairs
from tests.circuits.test_edges import CONFIG, some_nodes, sparse_model

N_PAIRS = 40


@pytest.fixture
def model() -> Transformer:
    return sparse_model().double()


@pytest.fixture
def means() -> Means:
    return Means({s: torch.randn(site_width(CONFIG, s), dtype=torch.float64) for s in node_sites(CONFIG)}, 1, "")


@pytest.fixture
def batch() -> PairBatch:
    return random_pairs(N_PAIRS, n_pos=6, d_vocab=20)


@pytest.fixture
def subgraph(model: Transformer) -> Subgraph:
    nodes = some_nodes(0.6)
    subgraph = Subgraph(nodes, circuit_edges(model, nodes)[::3])
    assert len(cut_edges(model, subgraph)) > 10
    return subgraph


def test_at_rate_0_it_is_the_model_and_at_1_the_circuit_alone(
    model: Transformer, means: Means, batch: PairBatch, subgraph: Subgraph
) -> None:
    nothing, everything = (
        answer_margins(
            model, batch, taps=partial_taps(model, subgraph, means, draw_parts(model, n_pairs=N_PAIRS, rate=rate, seed=3))
        )
        for rate in (0.0, 1.0)
    )
    torch.testing.assert_close(nothing, answer_margins(model, batch))
    alone = answer_margins(model, batch, taps=subgraph_taps(model, subgraph, means))
    torch.testing.assert_close(everything, alone, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(nothing, alone, atol=1e-2)


def test_every_pair_loses_its_own_part(model: Transformer, means: Means, batch: PairBatch, subgraph: Subgraph) -> None:
    """Each prompt alone, its part ablated and cut as a whole."""
    parts = draw_parts(model, n_pairs=N_PAIRS, seed=3)
    found = answer_margins(model, batch, taps=partial_taps(model, subgraph, means, parts))
    kept, start = mark(subgraph.nodes, CONFIG), offsets(CONFIG)
    n_cut = set()
    for row in range(0, 2 * N_PAIRS, 5):
        rate, variates = parts.rates[row % N_PAIRS], parts.variates[row % N_PAIRS]

        def variate(node: Node, variates: Tensor = variates) -> float:
            return variates[start[node.site] + node.channel].item()

        gone = [edge for edge in cut_edges(model, subgraph) if (variate(edge.source) + variate(edge.target)) % 1 < rate]
        n_cut.add(len(gone))
        taps = ablation_taps(kept | (variates >= rate), means, CONFIG)
        prompt = batch.tokens[row : row + 1, : int(batch.last[row]) + 1]
        logits = model(prompt, taps=chain(taps, cut_taps(model, cuts_of(gone), means)), at=batch.last[row : row + 1])[0]
        positive, negative = batch.answers[row % N_PAIRS, :, 0]
        torch.testing.assert_close(found[row], logits[positive] - logits[negative], rtol=1e-6, atol=1e-6)
    assert len(n_cut) > 3


def test_every_pair_has_a_part_of_its_own_and_rates_are_spread_evenly(model: Transformer) -> None:
    parts = draw_parts(model, n_pairs=N_PAIRS, seed=0)
    assert all(len(each.unique(dim=0)) == N_PAIRS for each in parts)
    torch.testing.assert_close(parts.rates[:, 0].sort().values, 0.25 + (torch.arange(N_PAIRS) + 0.5) / (2 * N_PAIRS))
    assert parts.variates.shape == (N_PAIRS, count_nodes(CONFIG))
    assert all(torch.equal(a, b) for a, b in zip(parts, draw_parts(model, n_pairs=N_PAIRS, seed=0), strict=True))
    assert not torch.equal(parts.variates, draw_parts(model, n_pairs=N_PAIRS, seed=1).variates)


@pytest.mark.parametrize("rate", [0.25, 0.5, 0.75])
def test_the_share_of_nodes_and_edges_removed_follows_the_rate(model: Transformer, means: Means, rate: float) -> None:
    """Everything but one edge and one neuron is kept; a prompt has lost them where their values are not the model's."""
    nodes = {site: list(range(site_width(CONFIG, site))) for site in node_sites(CONFIG)}
    nodes["1.mlp.post_act"].remove(4)
    edges = circuit_edges(model, nodes)
    (cut, *_) = [edge for edge in edges if edge.target.site == "0.mlp.post_act"]
    parts, tokens = draw_parts(model, n_pairs=2000, rate=rate, seed=1), torch.randint(20, (2000, 1))
    subgraph = Subgraph(nodes, [edge for edge in edges if edge != cut])
    taps = partial_taps(model, subgraph, means, parts)(torch.arange(2000))
    found, plain = (record(model, tokens, "*", taps=each) for each in (taps, NO_TAPS))
    node_gone = found["1.mlp.post_act"][:, 0, 4] == means.sites["1.mlp.post_act"][4]
    edge_gone = (found["0.mlp.post_act.pre"] != plain["0.mlp.post_act.pre"])[:, 0]
    channel = cut.target.channel
    assert not edge_gone[:, [other for other in range(12) if other != channel]].any()
    for gone in (node_gone, edge_gone[:, channel]):
        assert abs(gone.double().mean() - rate) < 0.05
