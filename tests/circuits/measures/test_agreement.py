"""Agreement: overlaps by hand, twins, and a model found again behind a permutation of its channels."""

import dataclasses

import pytest
import torch
from scipy import stats

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.measures.agreement import (
    Overlap,
    agreement,
    best_pairs,
    functional_matching,
    match_models,
    similarities,
)
from sparse_circuits.circuits.nodes import channels_of, count_nodes
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Node, Transformer
from sparse_circuits.tasks import PairBatch, Scoring

CONFIG = ModelConfig(n_layers=2, d_model=8, n_ctx=8, d_head=4, d_mlp=12, abs_topk=1.0)
NEURONS = "0.mlp.post_act"


@pytest.fixture
def batch() -> PairBatch:
    tokens = torch.randint(50, (60, 8))
    return PairBatch(tokens, torch.full((60,), 7), torch.randint(50, (30, 2, 1)), Scoring.pair)


def random_model() -> Transformer:
    model = Transformer(CONFIG, d_vocab=50).double().requires_grad_(False)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.normal_()
    return model


def with_nodes(circuit: Circuit, model: Transformer, nodes: dict[str, list[int]]) -> Circuit:
    return dataclasses.replace(circuit, model=model, nodes=nodes, edges=circuit_edges(model, nodes))


def of_another_model(circuit: Circuit) -> Circuit:
    return dataclasses.replace(circuit, means=circuit.means._replace(model_hash="another"))


def test_overlap_by_hand() -> None:
    assert (Overlap(6, 4, 3).jaccard, Overlap(6, 4, 3).of_smaller) == (3 / 7, 3 / 4)
    assert Overlap(0, 0, 0).jaccard == Overlap(0, 5, 0).of_smaller == 1 and Overlap(0, 5, 0).jaccard == 0


def test_two_circuits_of_one_model_share_channels_and_weights(circuit: Circuit) -> None:
    model = random_model()
    first = with_nodes(circuit, model, {"0.mlp.act_in": [1, 2], NEURONS: [3, 4, 5], "final_resid": [0]})
    second = with_nodes(circuit, model, {"0.mlp.act_in": [2, 3], NEURONS: [4, 5], "0.mlp.resid_delta": [7]})
    found = agreement(first, second)
    assert found.nodes == (6, 5, 3)
    assert found.nodes_by_site == {
        "0.mlp.act_in": (2, 2, 1),
        NEURONS: (3, 2, 2),
        "0.mlp.resid_delta": (0, 1, 0),
        "final_resid": (1, 0, 0),
    }
    assert found.edges == (6, 6, 2)
    assert found.edges_by_link == {f"0.mlp.act_in -> {NEURONS}": (6, 4, 2), f"{NEURONS} -> 0.mlp.resid_delta": (0, 2, 0)}
    cut = dataclasses.replace(second, edges=second.edges[:1])
    assert agreement(first, cut).edges.n_second == 1
    assert agreement(first, first).nodes.jaccard == agreement(first, first).edges.jaccard == 1


def test_a_twin_counts_for_the_node_that_it_copies(circuit: Circuit, batch: PairBatch) -> None:
    model = random_model()
    mlp = model.layers[0].mlp
    mlp.into.weight[5], mlp.into.bias[5] = mlp.into.weight[3], mlp.into.bias[3]
    first = with_nodes(circuit, model, {"0.mlp.act_in": [1], NEURONS: [3, 7], "final_resid": [0]})
    second = with_nodes(circuit, model, {"0.mlp.act_in": [1], NEURONS: [5, 8], "final_resid": [0, 1]})
    assert agreement(first, second).nodes.n_shared == 2
    matching = functional_matching(first, second, batch)
    assert matching.nodes[Node(NEURONS, 3)] == Node(NEURONS, 5) and Node(NEURONS, 7) not in matching.nodes
    assert matching.mean_correlation == pytest.approx(1)
    found = agreement(first, second, matching=matching)
    assert found.nodes == (4, 5, 3) and found.edges == (2, 2, 1)
    fewer = with_nodes(circuit, model, {NEURONS: [5]})
    assert functional_matching(with_nodes(circuit, model, {NEURONS: [3, 5]}), fewer, batch).nodes == {
        Node(NEURONS, 5): Node(NEURONS, 5)
    }
    itself = functional_matching(first, first, batch).nodes
    assert len(itself) == 4 and all(node == partner for node, partner in itself.items())


def test_a_model_is_found_again_behind_permuted_channels(circuit: Circuit, batch: PairBatch) -> None:
    model = random_model()
    stream, neurons = torch.randperm(8), torch.randperm(12)
    twin = permuted(model, stream, neurons)
    torch.testing.assert_close(twin(batch.tokens), model(batch.tokens))
    matched, control = match_models(model, twin, batch)
    assert matched.mean_correlation == pytest.approx(1) and control.mean_correlation < 0.6
    for channel in range(12):
        assert matched.nodes[Node("1.mlp.post_act", int(neurons[channel]))] == Node("1.mlp.post_act", channel)
    for channel in range(8):
        assert matched.nodes[Node("final_resid", int(stream[channel]))] == Node("final_resid", channel)
    nodes = channels_of(torch.rand(count_nodes(CONFIG)) < 0.5, CONFIG)
    renamed = {site: [] for site in nodes}
    for site, channels in nodes.items():
        renamed[site] = [matched.nodes[Node(site, channel)].channel for channel in channels]
    first, second = with_nodes(circuit, model, nodes), of_another_model(with_nodes(circuit, twin, renamed))
    found, chance = (agreement(first, second, matching=each) for each in (matched, control))
    assert found.nodes.jaccard == found.edges.jaccard == 1
    assert chance.edges.jaccard < 0.6


def permuted(model: Transformer, stream: torch.Tensor, neurons: torch.Tensor) -> Transformer:
    twin = Transformer(CONFIG, d_vocab=50).double().requires_grad_(False)
    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
    for name, weight in weights.items():
        if name in ("embed.weight", "unembed.weight") or name.endswith(("qkv.weight", "into.weight")):
            weights[name] = weight[:, stream]
        elif name.endswith(("out.weight", "out.bias")):
            weights[name] = weight[stream]
    for layer in range(2):
        mlp = f"layers.{layer}.mlp"
        for name in (f"{mlp}.into.weight", f"{mlp}.into.bias"):
            weights[name] = weights[name][neurons]
        weights[f"{mlp}.out.weight"] = weights[f"{mlp}.out.weight"][:, neurons]
    twin.load_state_dict(weights)
    return twin


def test_similarity_is_the_size_of_pearsons_correlation() -> None:
    first, second = torch.randn(20, 3), torch.randn(20, 2)
    second[:, 0] = 5 - 2 * first[:, 1]
    first[:, 2] = second[:, 1] = 0.1  # no float's mean is quite 0.1
    found = similarities(first, second)
    for row in (0, 1):
        expected = abs(stats.pearsonr(first[:, row], second[:, 0]).statistic)
        assert found[row, 0].item() == pytest.approx(expected, abs=1e-6)
    assert found[1, 0].item() == pytest.approx(1) and found[0, 0] < 0.9
    assert found[2].tolist() == found[:2, 1].tolist() == [0, 0]


def test_pairs_have_the_largest_sum_and_weak_ones_are_left_out() -> None:
    similarity = torch.tensor([[0.9, 0.8, 0.0], [0.85, 0.1, 0.2]], dtype=torch.float64)
    assert best_pairs(similarity) == [(0, 1), (1, 0)]
    assert best_pairs(similarity, at_least=0.82) == [(0, 0)]
    assert best_pairs(similarity, at_least=0.95) == []


def test_refuses_what_has_no_common_names(circuit: Circuit, batch: PairBatch) -> None:
    with pytest.raises(UserError, match="match_models"):
        agreement(circuit, of_another_model(circuit))
    with pytest.raises(UserError, match="seeds of one model"):
        match_models(random_model(), Transformer(dataclasses.replace(CONFIG, n_layers=1), d_vocab=50), batch)
    with pytest.raises(UserError, match="above 0"):
        functional_matching(circuit, circuit, batch, at_least=0.0)
