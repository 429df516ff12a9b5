"""The graph of `graph.py` as JSON, under these names:

    format   "sparse_circuits.circuit"
    version  1; raised when a field changes its meaning or goes
    graph    {task, summary, model_hash, calibration: {scale, shift}, card: {...}}
    nodes    [{name, site, channel, kind, layer}] in firing order; where there is one: text, loss_without, correlation, error
    edges    [{source, target, weight, kind}], ends by name; where there is one: loss_without

What each of them means is said in `graph.py`; in the card, a number that is not finite is null. `load_json` gives the same
graph back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import networkx as nx

from sparse_circuits.errors import UserError
from sparse_circuits.interop.graph import EdgeKind
from sparse_circuits.model import Node
from sparse_circuits.run import read_json

FORMAT, VERSION = "sparse_circuits.circuit", 1
GRAPH = {"task": str, "summary": str, "model_hash": str, "calibration": dict, "card": dict}
NODE = {"name": str, "site": str, "channel": int, "kind": str, "layer": int}
EDGE = {"source": str, "target": str, "weight": float, "kind": str}
OPTIONAL = {"text": str, "loss_without": float, "correlation": float, "error": float}


def to_json(graph: nx.DiGraph) -> str:
    """Return a circuit's graph as JSON."""
    nodes = [{"name": name, **attributes} for name, attributes in graph.nodes(data=True)]
    edges = [{"source": source, "target": target, **attributes} for source, target, attributes in graph.edges(data=True)]
    parts = {"format": FORMAT, "version": VERSION, "graph": graph.graph, "nodes": nodes, "edges": edges}
    return json.dumps(parts, ensure_ascii=False, allow_nan=False, indent=1)


def load_json(path: Path) -> nx.DiGraph:
    """Read a circuit's graph from JSON.

    Raises:
        UserError: the file is missing, damaged, of another format or version, or its nodes and edges do not fit together.
    """
    parts = read_json(path)
    if not isinstance(parts, dict) or (parts.get("format"), parts.get("version")) != (FORMAT, VERSION):
        raise UserError(f"{path} is not {FORMAT} of version {VERSION}: export the circuit again.")
    try:
        return _graph(parts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not hold a circuit ({error}): export it again.") from error


def _graph(parts: dict[str, Any]) -> nx.DiGraph:
    graph = nx.DiGraph(**_typed(parts["graph"], GRAPH))
    for node in parts["nodes"]:
        name = _typed(node, NODE)["name"]
        if name != str(Node(node["site"], node["channel"])) or name in graph:
            raise ValueError(f"node {name} comes twice, or is not {node['site']}[{node['channel']}]")
        graph.add_node(name, **{key: value for key, value in node.items() if key != "name"})
    for edge in parts["edges"]:
        source, target = (_typed(edge, EDGE)[end] for end in ("source", "target"))
        if edge["kind"] not in EdgeKind.__members__:
            raise ValueError(f"{edge['kind']!r} is no kind of edge")
        if not {source, target} <= graph.nodes or graph.has_edge(source, target):
            raise ValueError(f"edge {source} -> {target} comes twice, or joins nodes that are not there")
        graph.add_edge(source, target, **{key: value for key, value in edge.items() if key not in ("source", "target")})
    return graph


def _typed(values: dict[str, Any], kinds: dict[str, type]) -> dict[str, Any]:
    """Return the values if those of `kinds` are there, optional ones at most beside them, and each is of its kind."""
    if odd := (values.keys() ^ kinds.keys()) - OPTIONAL.keys():
        raise ValueError(f"{', '.join(sorted(odd))} missing or unexpected")
    for name, value in values.items():
        if not isinstance(value, (kinds | OPTIONAL)[name]):
            raise ValueError(f"{name} is {value!r}")
    return values
