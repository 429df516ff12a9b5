"""The edges of the graph of `graph.py` as a table, one a line under the names of the columns."""

from __future__ import annotations

import csv
import io

import networkx as nx

COLUMNS = ("source", "target", "weight", "kind", "loss_without")


def to_csv(graph: nx.DiGraph) -> str:
    """Return a circuit's edges as CSV; a cell is empty where there is no such number."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({"source": source, "target": target, **edge} for source, target, edge in graph.edges(data=True))
    return text.getvalue()
