"""The graph of a circuit, and the formats it is written in: nothing lost, and read back where something reads it."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest

from sparse_circuits.circuits import Circuit
from sparse_circuits.errors import UserError
from sparse_circuits.interop import Format, export, load_json, networkx
from sparse_circuits.model import Node, Positions
from sparse_circuits.plain import to_plain
from sparse_circuits.tasks import Scoring
from tests.interop.made import CONFIG, made


@pytest.fixture(scope="module")
def circuit() -> Circuit:
    return made(replace(CONFIG, positions=Positions.concatenated), scoring=Scoring.prefix_set, kept=0.3)


@pytest.fixture(scope="module")
def graph(circuit: Circuit) -> nx.DiGraph:
    return networkx(circuit)


def weights(graph: nx.DiGraph, kind: str) -> dict[tuple[str, str], float]:
    return {(a, b): edge["weight"] for a, b, edge in graph.edges(data=True) if edge["kind"] == kind}


def test_every_node_and_edge_of_the_circuit_is_there_exactly(circuit: Circuit, graph: nx.DiGraph) -> None:
    own = [Node(site, channel) for site, channels in circuit.nodes.items() for channel in channels]
    fidelity = {each.node: {"correlation": each.correlation, "error": each.error} for each in circuit.card.fidelity}
    assert [node for node, kind in graph.nodes(data="kind") if kind not in ("token", "embed", "logits")] == list(map(str, own))
    for node in own:
        layer, kind = node.site.split(".", 1) if "." in node.site else (2, node.site)
        address = {"site": node.site, "channel": node.channel, "kind": kind, "layer": int(layer)}
        measured = {"loss_without": circuit.card.without_nodes[str(node)], **fidelity[str(node)]}
        assert graph.nodes[str(node)] == {**address, **measured}
    for edge in circuit.edges:
        assert graph.edges[str(edge.source), str(edge.target)]["loss_without"] == circuit.card.without_edges[str(edge)]
    assert weights(graph, "weight") == {(str(edge.source), str(edge.target)): edge.weight for edge in circuit.edges}
    assert len(circuit.edges) > 50


def test_links_stand_apart_from_edges(circuit: Circuit, graph: nx.DiGraph) -> None:
    residual = weights(graph, "residual")
    for link in circuit.residual_links():
        assert residual.pop((str(link.source), str(link.target))) == link.weight
    for (source, target), gain in residual.items():
        reader = Node.parse(target)
        assert source == f"embed[{reader.channel}]"
        sublayer = {site.site: site for _, site in circuit.model.sublayers()}.get(reader.site.rpartition(".")[0])
        assert gain == (sublayer.reader.norm.gain[reader.channel].item() if sublayer else 1.0)
    embedding = {(f"token[{link.token}]", f"embed[{link.channel}]"): link.weight for link in circuit.embedding_links()}
    assert weights(graph, "embedding") == embedding
    unembedding = {
        (f"final_resid[{link.channel}]", f"logits[{link.token}]"): link.weight for link in circuit.unembedding_links()
    }
    assert weights(graph, "unembedding") == unembedding
    counts = Counter(kind for _, _, kind in graph.edges(data="kind"))
    assert set(counts) == {"weight", "residual", "embedding", "unembedding"} and len(residual) > 5


def test_position_channels_have_no_source(circuit: Circuit, graph: nx.DiGraph) -> None:
    positions = [channel for channel in circuit.nodes["0.attn.act_in"] if channel >= CONFIG.d_model]
    assert positions
    assert not any(graph.in_degree(f"0.attn.act_in[{channel}]") for channel in positions)


def test_the_ends_have_texts_and_layers_outside_the_model(circuit: Circuit, graph: nx.DiGraph) -> None:
    for node, attributes in graph.nodes(data=True):
        if attributes["kind"] in ("token", "logits"):
            assert attributes["text"] == circuit.tokenizer.token(attributes["channel"]), node
    assert {kind: layer for _, (kind, layer) in ends(graph)} == {"token": -1, "embed": -1, "final_resid": 2, "logits": 2}


def ends(graph: nx.DiGraph) -> list[tuple[str, tuple[str, int]]]:
    return [(node, (own["kind"], own["layer"])) for node, own in graph.nodes(data=True) if own["kind"] == own["site"]]


def test_the_graph_carries_task_model_calibration_and_card(circuit: Circuit, graph: nx.DiGraph) -> None:
    card = dict(graph.graph["card"])
    assert {name: graph.graph[name] for name in ("task", "summary", "model_hash", "calibration")} == {
        "task": circuit.task.name,
        "summary": circuit.task.summary,
        "model_hash": circuit.model_hash,
        "calibration": to_plain(circuit.calibration),
    }
    assert card.pop("verdict") == circuit.card.verdict
    assert card.pop("checks") == {
        each.name: {k: v for k, v in to_plain(each).items() if k != "name"} for each in circuit.card.checks
    }
    whole = to_plain(circuit.card)
    assert card == {name: value for name, value in whole.items() if name in card}
    assert whole.keys() - card.keys() == {"checks", "without_nodes", "without_edges", "fidelity"}


def test_a_number_that_is_not_finite_is_null_or_left_out(circuit: Circuit, tmp_path: Path) -> None:
    lost = dict(circuit.card.without_nodes)
    name = next(iter(lost))
    lost[name] = math.nan
    odd = replace(circuit, card=replace(circuit.card, target_loss=math.inf, without_nodes=lost))
    (path,) = export(odd, Format.json, tmp_path / "odd.json")
    back = load_json(path)
    assert back.graph["card"]["target_loss"] is None and "loss_without" not in back.nodes[name]
    (path,) = export(odd, Format.graphml, tmp_path / "odd.graphml")
    assert "card.target_loss" not in nx.read_graphml(path).graph


def test_json_gives_the_same_graph_back(circuit: Circuit, graph: nx.DiGraph, tmp_path: Path) -> None:
    (path,) = export(circuit, Format.json, tmp_path / "circuit.json")
    back = load_json(path)
    assert back.graph == graph.graph
    assert list(back.nodes(data=True)) == list(graph.nodes(data=True))
    assert list(back.edges(data=True)) == list(graph.edges(data=True))


def changed(value: dict[str, Any], *path: Any, to: Any) -> dict[str, Any]:
    """Return the JSON value with one entry replaced, or, with `...`, removed."""
    value = json.loads(json.dumps(value))
    *way, last = path
    inner = value
    for step in way:
        inner = inner[step]
    if to is ...:
        del inner[last]
    else:
        inner[last] = to
    return value


@pytest.mark.parametrize(
    ("path", "to", "says"),
    [
        (("format",), "something", "is not sparse_circuits.circuit of version 1"),
        (("version",), 2, "is not sparse_circuits.circuit of version 1"),
        (("nodes",), ..., "'nodes'"),
        (("graph", "task"), ..., "task missing or unexpected"),
        (("graph", "card"), 3, "card is 3"),
        (("nodes", 0, "channel"), "7", "channel is '7'"),
        (("nodes", 0, "colour"), "red", "colour missing or unexpected"),
        (("nodes", 0, "channel"), 1234, "is not token"),
        (("nodes", 1), {"name": "token[0]"}, "missing or unexpected"),
        (("edges", 0, "source"), "token[9999]", "joins nodes that are not there"),
        (("edges", 0, "weight"), None, "weight is None"),
        (("edges", 0, "kind"), "rope", "'rope' is no kind of edge"),
        (("edges",), 5, "not iterable"),
    ],
)
def test_a_damaged_json_is_refused(circuit: Circuit, path: tuple, to: Any, says: str, tmp_path: Path) -> None:
    (file,) = export(circuit, Format.json, tmp_path / "circuit.json")
    file.write_text(json.dumps(changed(json.loads(file.read_text()), *path, to=to)))
    with pytest.raises(UserError, match=re.escape(says)):
        load_json(file)


@pytest.mark.parametrize("what", ["nodes", "edges"])
def test_what_comes_twice_is_refused(circuit: Circuit, what: str, tmp_path: Path) -> None:
    (file,) = export(circuit, Format.json, tmp_path / "circuit.json")
    parts = json.loads(file.read_text())
    parts[what].append(parts[what][0])
    file.write_text(json.dumps(parts))
    with pytest.raises(UserError, match="comes twice"):
        load_json(file)


def test_networkx_reads_the_graphml(circuit: Circuit, graph: nx.DiGraph, tmp_path: Path) -> None:
    (path,) = export(circuit, Format.graphml, tmp_path / "circuit.graphml")
    back = nx.read_graphml(path)
    assert dict(back.edges) == dict(graph.edges)
    for node, attributes in graph.nodes(data=True):
        own = dict(back.nodes[node])
        if "text" in own:
            own["text"] = json.loads(own["text"])
        assert own == attributes
    assert back.graph["card.checks.circuit.loss"] == circuit.card["circuit"].loss
    assert back.graph["calibration.shift"] == circuit.calibration.shift


STRING = r'"(?:[^"\\]|\\["\\])*"'
STATEMENTS = {
    "edge": re.compile(rf'({STRING}) -> ({STRING}) \[label="([-+][\d.]+)", color=(\w+)(, style=dashed)?\];'),
    "node": re.compile(rf"({STRING}) \[label={STRING}\];"),
    "open": re.compile(rf"(?:digraph|subgraph) {STRING} {{"),
    "attribute": re.compile(rf"(?:rankdir=LR|label={STRING});"),
    "close": re.compile("}"),
}


def statements(path: Path) -> list[tuple[str, re.Match]]:
    """Return what stands on each line of a DOT file: every line is one whole statement of those we write."""
    found = []
    for line in path.read_text().splitlines():
        fits = [(kind, match) for kind, pattern in STATEMENTS.items() if (match := pattern.fullmatch(line.strip()))]
        assert len(fits) == 1, line
        found += fits
    return found


def test_dot_draws_all_but_the_tokens(circuit: Circuit, graph: nx.DiGraph, tmp_path: Path) -> None:
    (path,) = export(circuit, Format.dot, tmp_path / "circuit.dot")
    found = statements(path)
    drawn = [node for node, kind in graph.nodes(data="kind") if kind != "token"]
    assert [match[1] for kind, match in found if kind == "node"] == [f'"{node}"' for node in drawn]
    edges = {tuple(end.strip('"') for end in match.groups()[:2]): match for kind, match in found if kind == "edge"}
    assert edges.keys() == {(a, b) for a, b in graph.edges if a in drawn}
    for ends_of, match in edges.items():
        edge = graph.edges[ends_of]
        assert float(match[3]) == pytest.approx(edge["weight"], abs=5e-4)
        assert bool(match[5]) == (edge["kind"] == "residual") and (match[4] == "red") == (edge["weight"] < 0)
    sites = {site for node, site in graph.nodes(data="site") if node in drawn}
    kinds = Counter(kind for kind, _ in found)
    assert kinds["open"] == kinds["close"] == 1 + len(sites)


def test_dot_leaves_out_a_vocabulary_of_logits(tmp_path: Path) -> None:
    (path,) = export(made(scoring=Scoring.complement, kept=0.3), Format.dot, tmp_path / "circuit.dot")
    text = path.read_text()
    assert statements(path) and "final_resid[" in text and "logits[" not in text


def test_csv_lists_every_edge(circuit: Circuit, graph: nx.DiGraph, tmp_path: Path) -> None:
    (path,) = export(circuit, Format.csv, tmp_path / "circuit.csv")
    with open(path, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["source"], row["target"]) for row in rows] == list(graph.edges)
    for row, edge in zip(rows, graph.edges.values(), strict=True):
        numbers = {name: float(row[name]) for name in ("weight", "loss_without") if row[name]}
        assert {"kind": row["kind"], **numbers} == edge


@pytest.mark.parametrize("kind", Format)
def test_a_folder_is_never_replaced_by_a_file(kind: Format, circuit: Circuit, tmp_path: Path) -> None:
    folder = tmp_path / "circuit.py"
    folder.mkdir()
    (folder / "kept.txt").write_text("mine")
    with pytest.raises(UserError, match="is a folder"):
        export(circuit, kind, folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["circuit.py", "kept.txt"]


def test_npz_holds_the_graph(circuit: Circuit, graph: nx.DiGraph, tmp_path: Path) -> None:
    (path,) = export(circuit, Format.npz, tmp_path / "circuit.npz")
    arrays = np.load(path, allow_pickle=False)
    names = arrays["nodes"].tolist()
    assert names == list(graph)
    found = {
        (names[a], names[b]): (w, kind)
        for (a, b), w, kind in zip(arrays["edges"], arrays["weights"], arrays["kinds"], strict=True)
    }
    assert found == {(a, b): (edge["weight"], edge["kind"]) for a, b, edge in graph.edges(data=True)}
    for kind, rows in (("nodes", graph.nodes(data=True)), ("edges", graph.edges(data=True))):
        expected = [row[-1].get("loss_without", np.nan) for row in rows]
        np.testing.assert_array_equal(arrays[f"loss_without_{kind}"], expected)
