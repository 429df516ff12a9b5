"""The graph of `graph.py` as numpy arrays.

nodes             names, in firing order
edges             (n_edges, 2), places in `nodes` of source and target
weights, kinds    of the edges
loss_without_nodes, loss_without_edges    NaN where it was not measured
"""

from __future__ import annotations

import io

import networkx as nx
import numpy as np


def to_npz(graph: nx.DiGraph) -> bytes:
    """Return a circuit's graph as an .npz, which numpy loads without pickle."""
    place = {name: number for number, name in enumerate(graph)}
    edges = list(graph.edges(data=True))
    arrays = {
        "nodes": np.array(list(graph), dtype=str),
        "edges": np.array([(place[source], place[target]) for source, target, _ in edges], dtype=np.int64).reshape(-1, 2),
        "weights": np.array([edge["weight"] for *_, edge in edges], dtype=np.float64),
        "kinds": np.array([edge["kind"] for *_, edge in edges], dtype=str),
        "loss_without_nodes": np.array([node.get("loss_without", np.nan) for _, node in graph.nodes(data=True)]),
        "loss_without_edges": np.array([edge.get("loss_without", np.nan) for *_, edge in edges]),
    }
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)
    return stream.getvalue()
