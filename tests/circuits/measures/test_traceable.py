"""Traceable edges: those of the model counted one weight at a time, each once."""

import dataclasses

import pytest
import torch

from sparse_circuits.circuits import Circuit, Edge
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.measures.traceable import EdgeCount, model_degrees, trace
from sparse_circuits.circuits.nodes import channels_of, count_nodes
from sparse_circuits.model import ModelConfig, Node, Transformer, node_sites, site_width

CONFIG = ModelConfig(n_layers=2, d_model=8, n_ctx=6, d_head=4, d_mlp=12)


@pytest.fixture
def sparse(circuit: Circuit) -> Circuit:
    """A circuit of half of a random sparse model, with every second of its edges."""
    model = Transformer(CONFIG, d_vocab=20).requires_grad_(False)
    for name, weight in model.named_parameters():
        if "layers" in name and weight.ndim == 2:
            weight.mul_(torch.rand_like(weight) < 0.2)
    nodes = channels_of(torch.rand(count_nodes(CONFIG)) < 0.5, CONFIG)
    return dataclasses.replace(circuit, model=model, nodes=nodes, edges=circuit_edges(model, nodes)[::2])


def all_edges(model: Transformer) -> list[Edge]:
    return circuit_edges(model, {site: range(site_width(CONFIG, site)) for site in node_sites(CONFIG)})


def test_counts_each_edge_that_touches_the_circuit_once(sparse: Circuit) -> None:
    inside = {Node(site, channel) for site, channels in sparse.nodes.items() for channel in channels}
    touching = [edge for edge in all_edges(sparse.model) if {edge.source, edge.target} & inside]
    traced = trace(sparse)
    assert traced.in_all == (len(touching), len(sparse.edges))
    assert len(all_edges(sparse.model)) > len(touching) > len(sparse.edges) > 10
    assert list(traced.by_node) == [Node(site, channel) for site, channels in sparse.nodes.items() for channel in channels]
    for node, count in traced.by_node.items():
        assert count.in_model == sum(node in edge[:2] for edge in touching), node
        assert count.in_circuit == sum(node in edge[:2] for edge in sparse.edges), node


def test_the_smallest_mlp_circuit_by_hand(sparse: Circuit) -> None:
    """Node 3 has one edge more than the circuit of 3 nodes and 2 edges uses, node 5 two."""
    into, out = sparse.model.layers[0].mlp.into.weight, sparse.model.layers[0].mlp.out.weight
    into.zero_()
    out.zero_()
    into[5, 3] = into[5, 2] = into[7, 3] = 1.0
    out[1, 5] = out[6, 5] = out[6, 7] = -0.5
    nodes = {"0.mlp.act_in": [3], "0.mlp.post_act": [5], "0.mlp.resid_delta": [1]}
    traced = trace(dataclasses.replace(sparse, nodes=nodes, edges=circuit_edges(sparse.model, nodes)))
    assert traced.in_all == EdgeCount(in_model=5, in_circuit=2)
    assert list(traced.by_node.values()) == [EdgeCount(2, 1), EdgeCount(4, 2), EdgeCount(1, 1)]


def test_residual_and_final_nodes_have_no_edges_of_their_own(sparse: Circuit) -> None:
    assert model_degrees(sparse.model, {"final_resid": [0, 3]}) == {Node("final_resid", 0): 0, Node("final_resid", 3): 0}
