"""GraphML, which yEd, Gephi and Cytoscape read: the graph of `graph.py`, written by networkx.

Its attributes are numbers and strings only. So the graph's own are flattened, their names joined by points
(`card.checks.circuit.loss`), what is null is left out, and the text of a token is written as a JSON string, since XML has
no control characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import networkx as nx


def to_graphml(graph: nx.DiGraph) -> str:
    """Return a circuit's graph as GraphML."""
    plain = nx.DiGraph(**dict(_flat(graph.graph)))
    for node, attributes in graph.nodes(data=True):
        plain.add_node(node, **{name: json.dumps(value) if name == "text" else value for name, value in attributes.items()})
    plain.add_edges_from(graph.edges(data=True))
    return "\n".join(nx.generate_graphml(plain))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(each, f"{name}.{key}" if name else str(key))
    elif value is not None:
        yield name, value
