"""Merging: proven on tokens, the same answer from fewer nodes, and the cut algebra that carries it."""

import pytest
import torch

from sparse_circuits.circuits.discovery.merge import merge_redundant, merged, proportional
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.means import Means, measure_means
from sparse_circuits.circuits.nodes import channels_of, count_nodes
from sparse_circuits.circuits.partial import draw_parts, partial_taps
from sparse_circuits.circuits.subgraph import Merge, Subgraph, subgraph_taps
from sparse_circuits.model import ModelConfig, Node, Transformer
from sparse_circuits.model.config import Activation

CONFIG = ModelConfig(n_layers=1, d_model=8, n_ctx=6, d_head=4, d_mlp=12, abs_topk=1.0, activation=Activation.relu)


class OneBatch:
    def next_batch(self) -> torch.Tensor:
        return torch.randint(20, (16, 7), generator=torch.Generator().manual_seed(0))


@pytest.fixture
def model() -> Transformer:
    """Neuron 5 is three times neuron 2, value channel 6 half of channel 4 (one head); channel 1 is twice 0 in no other head."""
    model = Transformer(CONFIG, d_vocab=20).double().requires_grad_(False)
    mlp, qkv = model.layers[0].mlp, model.layers[0].attn.qkv
    mlp.into.weight.mul_(50)
    mlp.into.weight[5], mlp.into.bias[5] = 3 * mlp.into.weight[2], 3 * mlp.into.bias[2]
    qkv.weight[16 + 6] = 0.5 * qkv.weight[16 + 4]
    return model


@pytest.fixture
def means(model: Transformer) -> Means:
    return measure_means(model, OneBatch(), n_tokens=96)


@pytest.fixture
def everything(model: Transformer) -> Subgraph:
    return Subgraph.whole(model, channels_of(torch.ones(count_nodes(CONFIG), dtype=torch.bool), CONFIG))


def test_only_what_is_proportional_is_proven(model: Transformer, means: Means, everything: Subgraph) -> None:
    found = {(merge.node, merge.into): merge.ratio for merge in proportional(model, everything, means)}
    assert found == {
        ("0.mlp.post_act[5]", "0.mlp.post_act[2]"): pytest.approx(3),
        ("0.mlp.post_act[2]", "0.mlp.post_act[5]"): pytest.approx(1 / 3),
        ("0.attn.v[6]", "0.attn.v[4]"): pytest.approx(0.5),
        ("0.attn.v[4]", "0.attn.v[6]"): pytest.approx(2),
    }
    assert proportional(model, everything, means._replace(sample=None)) == []


def test_a_merge_changes_no_logit(model: Transformer, means: Means, everything: Subgraph) -> None:
    tokens = torch.randint(20, (4, 6))
    for merge in proportional(model, everything, means):
        fewer = merged(everything, merge)
        assert Node.parse(merge.node) not in set(fewer.pieces())
        logits = model(tokens, taps=subgraph_taps(model, fewer, means))
        torch.testing.assert_close(logits, model(tokens), rtol=1e-5, atol=1e-6)
        without = subgraph_taps(model, everything.without(Node.parse(merge.node)), means)
        assert not torch.allclose(model(tokens, taps=without), model(tokens), atol=1e-4)


def test_weights_add_up_and_missing_edges_appear(model: Transformer, everything: Subgraph) -> None:
    first, second = Node("0.mlp.post_act", 2), Node("0.mlp.post_act", 5)
    gone = next(edge for edge in everything.edges if edge.source == first)
    fewer = merged(everything.without(gone), Merge(str(second), str(first), ratio=3.0, r_squared=1.0))
    weights = {edge.target: edge.weight for edge in fewer.edges if edge.source == first}
    own = {edge[:2]: edge.weight for edge in circuit_edges(model, everything.nodes)}
    for target, weight in weights.items():
        assert weight == pytest.approx((own[first, target] if target != gone.target else 0) + 3 * own[second, target])


def test_merges_only_while_the_target_is_reached(model: Transformer, means: Means, everything: Subgraph) -> None:
    candidates = proportional(model, everything, means)
    assert merge_redundant(everything, candidates, lambda part: 1.0, target_loss=0.5) == everything
    fewer = merge_redundant(everything, candidates, lambda part: 0.1, target_loss=0.5)
    assert {merge.node.split("[")[0] for merge in fewer.merges} == {"0.attn.v", "0.mlp.post_act"} and len(fewer.merges) == 2
    assert sum(map(len, fewer.nodes.values())) == count_nodes(CONFIG) - 2
    assert fewer.without(*(Node.parse(merge.into) for merge in fewer.merges)).merges == ()


def test_under_partial_ablation_a_merge_stands_or_falls_with_its_node(
    model: Transformer, means: Means, everything: Subgraph
) -> None:
    """Two proportional nodes: whichever part is removed, the merged circuit says what the whole one does."""
    fewer = merge_redundant(everything, proportional(model, everything, means), lambda part: 0.0, target_loss=1.0)
    tokens = torch.randint(20, (8, 6))
    parts = draw_parts(model, n_pairs=8, rate=0.5, seed=0)
    taps = partial_taps(model, fewer, means, parts)(torch.arange(8))
    torch.testing.assert_close(model(tokens, taps=taps), model(tokens), rtol=1e-5, atol=1e-6)
