"""How much of the model touches a circuit: the edges that its nodes have in the whole model, against those that it uses.

Gao et al. 2025 count by hand: the circuit that closes strings has 9 edges, its nodes have 41 in the model. A circuit can be
read without the rest of the model only so far as the two numbers are alike. An edge of the model is a nonzero
weight of a link; embedding, residual stream and unembedding are no edges here either. An edge between two of the circuit's
nodes is counted once in all, and once for each of the two.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import torch

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.nodes import Channels, list_nodes
from sparse_circuits.model import Link, Node, Transformer, links


class EdgeCount(NamedTuple):
    """Edges in the whole model, and those of them that the circuit uses."""

    in_model: int
    in_circuit: int


class Traced(NamedTuple):
    """The edges of a circuit's nodes."""

    in_all: EdgeCount
    """Each edge once."""
    by_node: dict[Node, EdgeCount]
    """The edges that begin or end at each node, in firing order."""


def trace(circuit: Circuit) -> Traced:
    """Count the edges that the circuit's nodes have, in the whole model and in the circuit."""
    degrees = model_degrees(circuit.model, circuit.nodes)
    used = Counter(node for edge in circuit.edges for node in edge[:2])
    n_touching = sum(_n_touching(circuit.model, link, circuit.nodes) for link in links(circuit.model.config))
    return Traced(
        in_all=EdgeCount(n_touching, len(circuit.edges)),
        by_node={node: EdgeCount(degree, used[node]) for node, degree in degrees.items()},
    )


@torch.no_grad()
def model_degrees(model: Transformer, nodes: Channels) -> dict[Node, int]:
    """Return for each of these nodes how many nonzero weights of the model's links begin or end there."""
    degrees = dict.fromkeys(list_nodes(nodes), 0)
    for link in links(model.config):
        is_edge = model.link_weight(link) != 0
        for site, counts in ((link.source, is_edge.sum(0)), (link.target, is_edge.sum(1))):
            for channel in nodes.get(site, ()):
                degrees[Node(site, channel)] += int(counts[channel])
    return degrees


@torch.no_grad()
def _n_touching(model: Transformer, link: Link, nodes: Channels) -> int:
    is_edge = model.link_weight(link) != 0
    touched = torch.zeros_like(is_edge)
    touched[list(nodes.get(link.target, ()))] = True
    touched[:, list(nodes.get(link.source, ()))] = True
    return int((is_edge & touched).sum())
