"""DOT, Graphviz's language: the graph of `graph.py`, to be drawn from left to right.

A box a site, its nodes inside. Weights are labels, negative ones red; links of the residual stream are dashed and grey. For a
drawing that can be read, the tokens of the embedding are left out, and the logits too where there are more than 16.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import networkx as nx

from sparse_circuits.interop.graph import LOGITS, TOKEN, EdgeKind

MAX_LOGITS = 16


def to_dot(graph: nx.DiGraph) -> str:
    """Return a circuit's graph as DOT."""
    drawn = graph.copy()
    drawn.remove_nodes_from(_at(graph, TOKEN))
    if len(_at(graph, LOGITS)) > MAX_LOGITS:
        drawn.remove_nodes_from(_at(graph, LOGITS))
    return "\n".join([f"digraph {quoted(graph.graph['task'])} {{", "  rankdir=LR;", *_sites(drawn), *_edges(drawn), "}", ""])


def _at(graph: nx.DiGraph, site: str) -> list[str]:
    return [node for node, own in graph.nodes(data="site") if own == site]


def quoted(text: str) -> str:
    """Return a DOT string that shows exactly this text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _sites(graph: nx.DiGraph) -> Iterator[str]:
    for site, nodes in groupby(graph.nodes(data=True), key=lambda node: node[1]["site"]):
        yield f"  subgraph {quoted(f'cluster_{site}')} {{"
        yield f"    label={quoted(site)};"
        for name, attributes in nodes:
            label = repr(attributes["text"]) if "text" in attributes else str(attributes["channel"])
            yield f"    {quoted(name)} [label={quoted(label)}];"
        yield "  }"


def _edges(graph: nx.DiGraph) -> Iterator[str]:
    for source, target, attributes in graph.edges(data=True):
        weight, is_stream = attributes["weight"], attributes["kind"] == EdgeKind.residual.name
        colour = "red" if weight < 0 else "grey" if is_stream else "black"
        style = ", style=dashed" if is_stream else ""
        yield f"  {quoted(source)} -> {quoted(target)} [label={quoted(f'{weight:+.3f}')}, color={colour}{style}];"
