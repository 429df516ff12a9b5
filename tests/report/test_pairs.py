from base64 import b64decode

import pytest
import torch

from sparse_circuits.circuits.evidence.patterns import Head, attention_patterns
from sparse_circuits.model import record
from sparse_circuits.model.taps import NO_TAPS
from sparse_circuits.report.graph import circuit_graph
from sparse_circuits.report.packed import pack_shares, pack_signed
from sparse_circuits.report.pairs import N_PAIRS, held_out_pairs
from sparse_circuits.report.texts import Texts


def unpacked(packed):
    scale = torch.tensor(packed["scale"])
    values = torch.frombuffer(bytearray(b64decode(packed["bytes"])), dtype=torch.int8)
    return values.view(len(scale), -1) * scale.unsqueeze(1)


def shares(text):
    return torch.frombuffer(bytearray(b64decode(text)), dtype=torch.uint8) / 255


def test_eight_bits_keep_every_number_to_a_127th_of_its_rows_largest():
    rows = torch.randn(5, 40) * torch.tensor([[1e-6], [1.0], [300.0], [0.0], [1.0]])
    assert ((unpacked(pack_signed(rows)) - rows).abs() <= rows.abs().amax(1, keepdim=True) / 254 * 1.001).all()
    assert (shares(pack_shares(torch.tensor([0.0, 0.5, 1.0]))) - torch.tensor([0.0, 0.5, 1.0])).abs().max() < 1 / 255


def test_what_is_no_number_is_zero():
    found = unpacked(pack_signed(torch.tensor([[1.0, float("nan"), float("inf")], [float("nan")] * 3])))
    assert torch.equal(found, torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))


@pytest.fixture
def told(make_circuit):
    circuit, texts = make_circuit(), Texts()
    return circuit, circuit_graph(circuit, texts), texts.listed()


def test_prompts_are_the_tasks_own_and_probabilities_the_circuits(told):
    circuit, graph, texts = told
    assert 1 <= len(graph["pairs"]) <= N_PAIRS
    for pair, encoded in zip(graph["pairs"], held_out_pairs(circuit), strict=True):
        prompts = ["".join(texts[token] for token in tokens) for tokens in pair["tokens"]]
        assert prompts == [circuit.tokenizer.decode(prompt) for prompt in (encoded.positive, encoded.negative)]
        predictions = [circuit.run(prompt) for prompt in prompts]
        assert pair["circuit"] == pytest.approx([predictions[0].positive, predictions[1].negative], rel=1e-4)
        assert [graph["nodes"][answer]["text"] for answer in pair["answers"]] == ['"', "'"]


@pytest.mark.parametrize("where", ["circuit", "model"])
def test_activations_are_those_of_a_run_of_the_same_prompt(told, where):
    circuit, graph, _ = told
    values, pairs = unpacked(graph["activations"][where]), held_out_pairs(circuit)
    lengths = [len(pair.positive) for pair in pairs]
    start = sum(lengths) + sum(lengths[:3])  # the fourth pair's negative prompt
    tokens = torch.tensor([pairs[3].negative])
    taps = circuit.taps() if where == "circuit" else NO_TAPS
    for row, node in enumerate(graph["nodes"]):
        if node["site"] == "logits":
            continue
        if node["site"] == "embed":
            expected = circuit.model.embed.weight[tokens[0], node["channel"]]
        else:
            expected = record(circuit.model, tokens, node["site"], taps=taps)[node["site"]][0, :, node["channel"]]
        error = (values[row, start : start + lengths[3]] - expected).abs().max()
        assert error <= graph["activations"][where]["scale"][row] * 0.51 + 1e-6


def test_attention_holds_every_query_and_the_sink(told):
    circuit, graph, _ = told
    (head,) = graph["attention"]
    assert (head["layer"], head["head"]) == (1, 0)
    found, pairs = shares(head["shares"]), held_out_pairs(circuit)
    length = len(pairs[0].positive)
    (pattern,) = attention_patterns(
        circuit.model, torch.tensor([pairs[0].positive]), [Head(1, 0)], taps=circuit.taps()
    ).values()
    start = 0
    for query in range(length):
        row = found[start : start + query + 2]
        assert (row[:-1] - pattern[0, query, : query + 1]).abs().max() < 1 / 255
        assert row.sum() == pytest.approx(1, abs=(query + 2) / 255)
        start += query + 2
    assert len(found) == 2 * sum(len(pair.positive) * (len(pair.positive) + 3) // 2 for pair in pairs)
