import pytest
import torch

from sparse_circuits.model import record
from sparse_circuits.report.samples import N_AROUND, N_BINS, QUANTILES, sample_behaviour
from sparse_circuits.report.texts import Texts
from tests.report.test_pairs import unpacked


def behaviour(circuit, sample):
    texts = Texts()
    return sample_behaviour([circuit], sample, texts), texts.listed()


def test_examples_stand_at_their_quantiles_with_what_is_around_them(make_circuit):
    circuit, sample = make_circuit(), torch.randint(0, 256, (6, 64))
    found, texts = behaviour(circuit, sample)
    assert [texts[token] for token in found["tokens"][:64]] == [circuit.tokenizer.token(token) for token in sample[0].tolist()]
    node = found["nodes"]["1.attn.act_in[5]"]
    values = record(circuit.model, sample, "1.attn.act_in")["1.attn.act_in"][:, :, 5]
    ordered = values.flatten().sort().values
    assert (node["quantiles"][0], node["quantiles"][-1]) == pytest.approx((ordered[-1].item(), ordered[0].item()))
    assert len(node["examples"]["at"]) == len(QUANTILES)
    windows, scale = unpacked(node["examples"]["values"]), torch.tensor(node["examples"]["values"]["scale"])
    places = [place for at in node["examples"]["at"] for place in at]
    assert (windows[:, N_AROUND] - values.flatten()[places]).abs().le(scale).all()
    assert node["examples"]["at"][0][0] == values.argmax()
    before, place = 3, places[0]
    if place % 64 >= before:
        assert (windows[0, N_AROUND - before] - values.flatten()[place - before]).abs() <= scale[0]


def test_the_histogram_counts_what_is_not_zero(make_circuit):
    circuit, sample = make_circuit(), torch.randint(0, 256, (6, 64))
    node = behaviour(circuit, sample)[0]["nodes"]["1.attn.q[3]"]
    values = record(circuit.model, sample, "1.attn.q")["1.attn.q"][:, :, 3]
    assert sum(node["histogram"]["counts"]) == int((values != 0).sum())
    assert len(node["histogram"]["counts"]) == N_BINS
    assert node["silent"] == pytest.approx((values == 0).double().mean().item())


def test_a_dead_node_has_no_examples(make_circuit, model):
    model.layers[0].mlp.into.weight[7] = 0
    model.layers[0].mlp.into.bias[7] = -30
    node = behaviour(make_circuit(), torch.randint(0, 256, (6, 64)))[0]["nodes"]["0.mlp.post_act[7]"]
    assert (node["silent"], node["histogram"]) == (1.0, None)
    assert not any(node["examples"]["at"])
