import pytest
import torch

from sparse_circuits.circuits import Group, Notes
from sparse_circuits.model import Link
from sparse_circuits.report import graph as room
from sparse_circuits.report.texts import Texts


def circuit_graph(circuit):
    return room.circuit_graph(circuit, Texts())


def names(graph, links):
    label = [f"{node['site']}[{node['channel']}]" for node in graph["nodes"]]
    return {(label[source], label[target]): weight for source, target, weight, *_ in links}


def test_edges_are_the_models_weights_exactly(make_circuit, model):
    graph = circuit_graph(make_circuit())
    edges = names(graph, graph["edges"])
    into = model.link_weight(Link("0.mlp.act_in", "0.mlp.post_act"))
    found = torch.tensor([edges["0.mlp.act_in[2]", "0.mlp.post_act[7]"], edges["0.mlp.act_in[5]", "0.mlp.post_act[7]"]])
    assert torch.equal(found, into[7, [2, 5]])
    assert len(edges) == graph["n_edges"] == 10


def test_the_stream_joins_writers_to_later_readers_of_the_same_channel(make_circuit, model):
    model.layers[1].attn.reader.norm.gain[5] = 1.5
    graph = circuit_graph(make_circuit())
    assert names(graph, graph["residual"]) == {
        ("embed[2]", "0.mlp.act_in[2]"): None,
        ("embed[5]", "0.mlp.act_in[5]"): None,
        ("embed[2]", "1.attn.act_in[2]"): None,
        ("embed[5]", "1.attn.act_in[5]"): None,
        ("embed[9]", "final_resid[9]"): None,
        ("0.mlp.resid_delta[5]", "1.attn.act_in[5]"): 1.5,
        ("1.attn.resid_delta[9]", "final_resid[9]"): 1.0,
    }


def test_the_answers_are_read_out_through_norm_and_unembedding(make_circuit, model, tokenizer):
    model.norm.gain[9] = 2.0
    graph = circuit_graph(make_circuit())
    double, single = (tokenizer.encode(text)[0] for text in ('"', "'"))
    assert names(graph, graph["unembedding"]) == {
        ("final_resid[9]", f"logits[{token}]"): pytest.approx(2 * model.unembed.weight[token, 9].item(), rel=1e-6)
        for token in (double, single)
    }
    assert [node["text"] for node in graph["nodes"] if node["site"] == "logits"] == ['"', "'"]


def test_ends_are_no_nodes_of_the_circuit(make_circuit):
    graph = circuit_graph(make_circuit())
    assert sum(node["site"] not in ("embed", "logits") for node in graph["nodes"]) == graph["n_nodes"] == 11


def test_a_dead_embedding_channel_writes_nothing(make_circuit, model):
    model.embed.weight[:, 5] = 0
    graph = circuit_graph(make_circuit())
    assert not any(source == "embed[5]" for source, _ in names(graph, graph["residual"]))


def test_a_task_of_the_user_has_answers_but_no_pairs(make_circuit):
    graph = circuit_graph(make_circuit("a_task_of_the_user"))
    assert (graph["pairs"], graph["activations"], graph["attention"]) == ([], None, [])
    assert {node["text"] for node in graph["nodes"] if node["site"] == "logits"} == {'"', "'"}


def test_checks_carry_their_intervals_and_bounds_and_the_verdict_names_what_fails(make_circuit):
    graph = circuit_graph(make_circuit())
    checks = {check["name"]: check for check in graph["checks"]}
    assert (checks["circuit"]["loss"], checks["circuit"]["at_most"], checks["circuit"]["at_least"]) == (0.125, 0.2, None)
    assert (checks["necessity"]["low"], checks["necessity"]["high"], checks["necessity"]["at_least"]) == (0.45, 0.55, 0.6)
    assert checks["model"]["about"] == "nothing ablated"
    assert graph["verdict"] == "does not hold: necessity (not searched: swapped, coin, random_weights)"


def test_nodes_and_edges_carry_the_loss_without_them(make_circuit):
    circuit = make_circuit()
    graph = circuit_graph(circuit)
    without = {f"{node['site']}[{node['channel']}]": node["without"] for node in graph["nodes"] if "without" in node}
    assert without == {"1.attn.q[3]": 0.4, "final_resid[9]": 0.7}
    assert [edge[3] for edge in graph["edges"]] == [0.3] + [None] * (len(circuit.edges) - 1)


def test_notes_of_the_circuit_come_along(make_circuit):
    notes = Notes({"1.attn.q[3]": "opens a string"}, [Group("quotes", ["1.attn.q[3]", "1.attn.k[3]"])])
    graph = circuit_graph(make_circuit().with_notes(notes))
    assert graph["notes"]["labels"] == {"1.attn.q[3]": "opens a string"}
    assert graph["notes"]["groups"] == [{"name": "quotes", "nodes": ["1.attn.q[3]", "1.attn.k[3]"]}]
