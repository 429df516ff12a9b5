"""Fidelity: a circuit that is the model is true to it, and every number of one that is not, by hand."""

from copy import deepcopy
from dataclasses import astuple

import numpy as np
import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.evidence.fidelity import N_INTERCHANGED, interchange, node_fidelity, pattern_errors
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.nodes import channels_of, count_nodes, mark
from sparse_circuits.circuits.subgraph import Subgraph, subgraph_taps
from sparse_circuits.model import ModelConfig, Node, Transformer, record
from sparse_circuits.model.taps import NO_TAPS
from sparse_circuits.tasks import PairBatch, Scoring, answer_difference
from sparse_circuits.tasks.calibrate import Calibration
from tests.circuits.planted import CHEAT, HONEST, planted_means, planted_model, planted_pairs
from tests.circuits.planted import CONFIG as PLANTED_CONFIG

CONFIG = ModelConfig(n_layers=2, d_model=8, n_ctx=6, d_head=4, d_mlp=12, bigram=False, abs_topk=1.0)
EVERYTHING = channels_of(torch.ones(count_nodes(CONFIG), dtype=torch.bool), CONFIG)
N_PAIRS = 40


@pytest.fixture
def model() -> Transformer:
    model = Transformer(CONFIG, d_vocab=20).double().requires_grad_(False)
    for weight in model.parameters():
        weight.normal_()
    return model


@pytest.fixture
def batch() -> PairBatch:
    tokens, last = torch.randint(20, (2 * N_PAIRS, 6)), torch.randint(1, 6, (N_PAIRS,)).repeat(2)
    return PairBatch(tokens, last, torch.randint(20, (N_PAIRS, 2, 1)), Scoring.pair)


def test_a_circuit_that_is_the_model_is_true_to_it(model: Transformer, batch: PairBatch) -> None:
    for node in node_fidelity(model, batch, EVERYTHING, NO_TAPS):
        assert node.correlation == pytest.approx(1, abs=1e-9) and node.error == 0, node
    errors = pattern_errors(model, batch, EVERYTHING, NO_TAPS)
    assert errors == {f"{layer}.attn head {head}": 0.0 for layer in range(2) for head in range(2)}
    some = {"0.mlp.post_act": [1, 4], "1.attn.q": [3], "final_resid": [0, 5]}
    found = interchange(model, batch, some, NO_TAPS, Calibration())
    assert found.correlation == pytest.approx(1) and found.same_sign == pytest.approx(1)
    assert found.all_in_model == found.all_in_circuit


def test_activations_are_compared_over_the_tokens_of_the_prompts(model: Transformer, batch: PairBatch) -> None:
    nodes = {"0.mlp.post_act": [1, 4], "1.attn.v": [2], "final_resid": [3]}
    taps = {"0.attn.resid_delta": lambda value: 0.5 * value, "1.attn.resid_delta": torch.zeros_like}
    found = {node.node: node for node in node_fidelity(model, batch, nodes, taps)}
    ours, theirs = (record(model, batch.tokens, list(nodes), taps=each) for each in (taps, NO_TAPS))
    is_prompt = torch.arange(6) <= batch.last.unsqueeze(1)
    assert list(found) == ["0.mlp.post_act[1]", "0.mlp.post_act[4]", "1.attn.v[2]", "final_resid[3]"]
    for name, node in found.items():
        site, channel = Node.parse(name)
        a, b = (values[site][is_prompt][:, channel].numpy() for values in (ours, theirs))
        assert node.correlation == pytest.approx(np.corrcoef(a, b)[0, 1]) and abs(node.correlation) < 0.999
        assert node.error == pytest.approx(np.sqrt(((a - b) ** 2).mean() / (b**2).mean()))


def test_scaled_is_correlated_and_constant_or_dead_is_not(model: Transformer, batch: PairBatch) -> None:
    def change(value: Tensor) -> Tensor:
        value = value.clone()
        value[..., 0] *= 3
        value[..., 1] = 7
        return value

    scaled, constant = node_fidelity(model, batch, {"0.attn.v": [0, 1]}, {"0.attn.v": change})
    assert (scaled.correlation, scaled.error) == (pytest.approx(1), pytest.approx(2))
    assert constant.correlation == 0 and constant.error > 0
    planted = planted_model()
    (dead,) = node_fidelity(planted, planted_pairs(4), {"0.mlp.post_act": [7]}, NO_TAPS)
    assert (dead.correlation, dead.error) == (0, 0)


def test_patterns_by_a_softmax_of_our_own_the_sink_included(model: Transformer, batch: PairBatch) -> None:
    """Zero queries see every key, and the sink, by the sink's logit alone."""
    found = pattern_errors(model, batch, {"1.attn.v": [1], "1.mlp.post_act": [0]}, {"1.attn.q": torch.zeros_like})
    assert found.keys() == {"1.attn head 0"}
    values, sink = record(model, batch.tokens, ["1.attn.q", "1.attn.k"]), model.layers[1].attn.sink[0]
    differences = []
    for row in range(2 * N_PAIRS):
        q, k = (values[f"1.attn.{name}"][row, :, :4] for name in "qk")
        for query in range(int(batch.last[row]) + 1):
            own = torch.cat([q[query] @ k[: query + 1].T / 2, sink.view(1)]).softmax(0)
            even = torch.cat([torch.zeros(query + 1), sink.view(1)]).softmax(0)
            differences.append((own - even).abs().sum())
    assert found["1.attn head 0"] == pytest.approx(torch.stack(differences).mean().item())
    assert 0 < found["1.attn head 0"] < 2


def test_patterns_are_those_of_the_heads_that_have_nodes(model: Transformer, batch: PairBatch) -> None:
    assert pattern_errors(model, batch, {"0.attn.act_in": [1], "final_resid": [2]}, NO_TAPS) == {}
    opposite = {"0.attn.q": lambda value: 100 * value, "0.attn.k": lambda value: -100 * value}
    found = pattern_errors(model, batch, {"0.attn.q": [0], "0.attn.k": [5], "1.attn.k": [1]}, opposite)
    assert list(found) == ["0.attn head 0", "0.attn head 1", "1.attn head 0"]
    assert all(0 < error <= 2 for error in found.values())


def test_who_takes_everything_from_the_other_prompt_says_what_that_one_says(model: Transformer, batch: PairBatch) -> None:
    """On the first pairs of a batch, in which a circuit is the model itself, calibrated."""
    calibration, first = Calibration(1.0, 1.2), batch.select(torch.arange(N_INTERCHANGED))
    margin = answer_margins(model, first).view(2, -1)
    flips = [(each * each.flip(0) < 0).double().mean().item() for each in (margin, calibration(margin))]
    assert 0.1 < min(flips) < max(flips) < 0.9
    found = interchange(model, batch, {"final_resid": list(range(8)), "1.mlp.post_act": [2]}, NO_TAPS, calibration)
    assert [found.all_in_model, found.all_in_circuit] == flips


def test_a_node_that_the_answer_does_not_depend_on_shifts_nothing() -> None:
    model, pairs = planted_model(), planted_pairs(20)
    assert record(model, pairs.tokens, "0.mlp.act_in")["0.mlp.act_in"][:, 1, 7].unique().numel() > 10
    for taps in (NO_TAPS, ablation_taps(mark(HONEST, PLANTED_CONFIG), planted_means(model), PLANTED_CONFIG)):
        found = interchange(model, pairs, {"0.mlp.act_in": [7]}, taps, Calibration())
        assert astuple(found) == (0, 0, 0, 0)
        whole = interchange(model, pairs, {"0.mlp.act_in": [0]}, taps, Calibration())
        assert whole.all_in_model == whole.all_in_circuit == 1 and whole.same_sign == pytest.approx(1)


def test_nodes_swapped_one_at_a_time_in_a_circuit_with_cut_edges() -> None:
    """Against a model in which the cut weights are zero, and the biases hold what the means send over them."""
    model, pairs, calibration = planted_model(), planted_pairs(N_INTERCHANGED), Calibration(0.8, 0.3)
    means = planted_means(model)
    nodes = {site: sorted({*HONEST[site], *CHEAT[site]}) for site in HONEST}
    edges = circuit_edges(model, nodes)
    cut = [edge for edge in edges if edge.source.channel in (2, 4) and edge.source.site == "0.mlp.post_act"]
    assert len(cut) == 2
    reference, inside = deepcopy(model), ablation_taps(mark(nodes, PLANTED_CONFIG), means, PLANTED_CONFIG)
    out = reference.layers[0].mlp.out
    for source, target, weight in cut:
        out.weight[target.channel, source.channel] = 0
        out.bias[target.channel] += weight * means.sites[source.site][source.channel]
    swapped_rows = torch.arange(2 * N_INTERCHANGED).view(2, -1).flip(0).flatten()

    def shift(model: Transformer, node: Node, taps: dict) -> float:
        value = record(model, pairs.tokens, node.site, taps=taps, at=pairs.last)[node.site][swapped_rows]

        def swap(own: Tensor) -> Tensor:
            own = taps.get(node.site, lambda each: each)(own).clone()
            own[..., node.channel] = value[..., node.channel]
            return own

        before, after = (
            answer_difference(model(pairs.tokens, taps=each, at=pairs.last), pairs)
            for each in (taps, {**taps, node.site: swap})
        )
        towards_other = torch.tensor([-1.0] * N_INTERCHANGED + [1.0] * N_INTERCHANGED)
        return ((after - before) * towards_other).mean().item()

    singles = [Node(site, channel) for site, channels in nodes.items() for channel in channels]
    in_circuit = np.array([0.8 * shift(reference, node, inside) for node in singles])
    in_model = np.array([shift(model, node, {}) for node in singles])
    assert in_circuit[singles.index(Node("0.mlp.post_act", 4))] == pytest.approx(0, abs=1e-9)
    taps = subgraph_taps(model, Subgraph(nodes, [edge for edge in edges if edge not in cut]), means)
    found = interchange(model, pairs, nodes, taps, calibration)
    assert found.correlation == pytest.approx(np.corrcoef(in_circuit, in_model)[0, 1], abs=1e-6)
    weight = np.abs(in_circuit)
    assert found.same_sign == pytest.approx(weight[in_circuit * in_model > 0].sum() / weight.sum(), abs=1e-6)
