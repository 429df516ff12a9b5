import pytest
import torch

from sparse_circuits.circuits.measures.traceable import model_degrees
from sparse_circuits.model import Link
from sparse_circuits.report.neighbours import channel_tokens, in_model
from sparse_circuits.report.texts import Texts


def test_a_nodes_weights_in_the_model_are_counted_as_traceability_counts_them(make_circuit, model):
    model.layers[0].mlp.into.weight[7, :10] = 0
    for node, degree in model_degrees(model, make_circuit().nodes).items():
        found = in_model(model, node)
        assert found["n_in"] + found["n_out"] == degree
    found = in_model(model, next(node for node in model_degrees(model, {"0.mlp.post_act": [7]})))
    row = model.link_weight(Link("0.mlp.act_in", "0.mlp.post_act"))[7]
    largest = row.abs().argmax().item()
    assert found["into"][0] == [f"0.mlp.act_in[{largest}]", pytest.approx(row[largest].item(), rel=1e-6)]


def test_a_channel_names_the_tokens_of_its_largest_weights(make_circuit, model):
    texts = Texts()
    channels = channel_tokens(make_circuit(), texts)
    assert set(channels) == {"2", "5", "9"}
    weights = torch.tensor([weight for _, weight in channels["5"]["embed"]])
    assert torch.equal(weights, weights.sort(descending=True).values)
    assert weights.max() == model.embed.weight[:, 5].max()
    assert weights.min() == model.embed.weight[:, 5].min()


def test_paths_in_the_payload_are_those_of_the_paths_room(make_circuit):
    from sparse_circuits.circuits.measures.paths import ov_paths
    from sparse_circuits.report.graph import circuit_graph

    circuit = make_circuit()
    graph = circuit_graph(circuit, Texts())
    (first,) = [path for path, _ in zip(ov_paths(circuit), range(1), strict=False)]
    named = [f"{graph['nodes'][node]['site']}[{graph['nodes'][node]['channel']}]" for node in graph["paths"]["ov"][0]["nodes"]]
    assert named == [str(node) for node in first.nodes]
    assert graph["paths"]["n_ov"] >= len(graph["paths"]["ov"]) > 0
