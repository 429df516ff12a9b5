"""Subgraphs: pieces come and go with their edges, and what runs is exactly what is listed."""

import pytest
import torch

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.edges import Edge, circuit_edges
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import mark
from sparse_circuits.circuits.subgraph import Subgraph, cut_edges, subgraph_taps
from sparse_circuits.model import Node, Transformer, node_sites, record, site_width
from sparse_circuits.model.sites import links
from tests.circuits.test_edges import CONFIG, some_nodes, sparse_model

A, B, C = Node("0.attn.act_in", 1), Node("0.attn.v", 2), Node("0.attn.resid_delta", 3)
SMALL = Subgraph(
    {"0.attn.act_in": [1], "0.attn.v": [2, 5], "0.attn.resid_delta": [3]},
    [Edge(A, B, 0.5), Edge(A, B._replace(channel=5), 0.25), Edge(B, C, -1.0)],
)


@pytest.fixture
def model() -> Transformer:
    return sparse_model().double()


@pytest.fixture
def means() -> Means:
    return Means({s: torch.randn(site_width(CONFIG, s), dtype=torch.float64) for s in node_sites(CONFIG)}, 1, "")


def test_pieces_are_all_nodes_then_all_edges() -> None:
    assert list(SMALL.pieces()) == [A, B, B._replace(channel=5), C, *SMALL.edges]


def test_with_a_node_go_its_edges_and_with_its_last_reader_goes_a_node() -> None:
    """The edges: 1 -> 2, 1 -> 5, 2 -> 3; 5 is read by nothing from the start, and stays."""
    assert SMALL.without(B) == Subgraph({"0.attn.act_in": [1], "0.attn.v": [5], "0.attn.resid_delta": [3]}, [SMALL.edges[1]])
    assert SMALL.without(C) == SMALL.without(C, B) == Subgraph({"0.attn.act_in": [1], "0.attn.v": [5]}, [SMALL.edges[1]])
    assert SMALL.without(SMALL.edges[0]) == SMALL._replace(edges=SMALL.edges[1:])
    assert SMALL.without(SMALL.edges[2]) == SMALL.without(B)
    assert SMALL.without(*SMALL.edges[:2]) == SMALL.without(A)
    assert SMALL.without(*SMALL.pieces()) == Subgraph({}, [])
    assert SMALL.without() == SMALL and SMALL.without(Node("final_resid", 0)) == SMALL


def test_the_whole_lists_every_weight_and_cuts_none(model: Transformer, means: Means) -> None:
    nodes, tokens = some_nodes(), torch.randint(20, (3, 6))
    whole = Subgraph.whole(model, nodes)
    assert whole == Subgraph(nodes, circuit_edges(model, nodes)) and len(whole.edges) > 10
    assert cut_edges(model, whole) == cut_edges(model, Subgraph(nodes)) == []
    expected = model(tokens, taps=ablation_taps(mark(nodes, CONFIG), means, CONFIG))
    for same in (whole, Subgraph(nodes)):
        assert torch.equal(model(tokens, taps=subgraph_taps(model, same, means)), expected)
    everything = subgraph_taps(model, Subgraph({site: list(range(site_width(CONFIG, site))) for site in means.sites}), means)
    assert everything == {}


def test_every_node_reads_its_kept_edges_and_the_mean_of_all_else(model: Transformer, means: Means) -> None:
    """By hand: what a matrix gives is its bias, kept weights times what is read, and all other weights times means.

    Where heads stand in between, what is read are their outputs, and a mean is one that attention has had its share of.
    """
    tokens, nodes = torch.randint(20, (3, 6)), some_nodes(0.7)
    subgraph = Subgraph(nodes, circuit_edges(model, nodes)[::3])
    assert len(cut_edges(model, subgraph)) > len(subgraph.edges)
    values = record(model, tokens, "*", taps=subgraph_taps(model, subgraph, means))
    for link in links(CONFIG):
        layer, sublayer, _ = link.target.split(".")
        part = getattr(model.layers[int(layer)], sublayer)
        kept = torch.zeros_like(model.link_weight(link))
        for edge in subgraph.edges:
            if (edge.source.site, edge.target.site) == link:
                kept[edge.target.channel, edge.source.channel] = edge.weight
        value, mean = values[link.source], means.sites[link.source].expand(3, 6, -1)
        if link.source.endswith("v"):
            q, k = (values[f"{layer}.attn.{name}"] for name in "qk")
            value, mean = part.attend(q, k, value), part.attend(q, k, mean)
        if link.target[-1] in "qkv":
            bias = part.qkv.bias.chunk(3)["qkv".index(link.target[-1])]
        else:
            bias = part.into.bias if link.target.endswith("post_act") else part.out.bias
        channels = nodes.get(link.target, [])
        expected = bias + value @ kept.T + mean @ (model.link_weight(link) - kept).T
        found = values[f"{link.target}.pre"]
        torch.testing.assert_close(found[..., channels], expected[..., channels], rtol=1e-6, atol=1e-6)


def test_a_node_that_nothing_reads_makes_no_difference(model: Transformer, means: Means) -> None:
    """Two dozen edges cut with `without`, and cut with every node left in place."""
    tokens, subgraph = torch.randint(20, (3, 6)), Subgraph.whole(model, some_nodes())
    cut = subgraph.edges[::3]
    fewer, same = subgraph.without(*cut), subgraph._replace(edges=[edge for edge in subgraph.edges if edge not in cut])
    assert len(list(mark(fewer.nodes, CONFIG).nonzero())) < len(list(mark(same.nodes, CONFIG).nonzero()))
    logits = [model(tokens, taps=subgraph_taps(model, each, means)) for each in (fewer, same)]
    torch.testing.assert_close(*logits, rtol=1e-9, atol=1e-9)


def test_without_any_edge_nothing_reaches_a_reader(model: Transformer, means: Means) -> None:
    nodes = {site: list(range(site_width(CONFIG, site))) for site in node_sites(CONFIG)}
    taps = subgraph_taps(model, Subgraph(nodes, []), means)
    values = record(model, torch.randint(20, (3, 6)), "*.q", taps=taps)
    for value in values.values():
        torch.testing.assert_close(value, value[:1, :1].expand_as(value), rtol=1e-6, atol=1e-6)
