"""Clean-up: nodes and edges whose removal leaves the validation loss under the target are removed, until there is none.

The paper's authors did it by hand (Gao et al. 2025, section 2.2). Pieces are tried one by one from the answer back to the
tokens, as in ACDC (Conmy et al. 2023), and what is not needed goes at once; so whatever is tried stands in front of all that
has gone, and the run up to there need not be repeated. Sweeps follow each other until one removes nothing. Then the loss
without each single node and without each single edge is the circuit's certificate: all of them are above the target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import Node

Piece = Node | Edge


@runtime_checkable
class Judge(Protocol):
    """What runs subgraphs on validation pairs."""

    def reaches_target(self, subgraph: Subgraph) -> bool:
        """Return whether the loss is at most the target."""

    def loss(self, subgraph: Subgraph) -> float:
        """Return the loss, in nats, or where several runs have to reach the target that of the first that does not."""


class Cleaned(NamedTuple):
    """A circuit in which every piece is needed."""

    subgraph: Subgraph
    without: dict[Piece, float]
    """The certificate: the validation loss without each node and each edge."""


def clean_up(subgraph: Subgraph, near: Callable[[Subgraph], Judge]) -> Cleaned:
    """Remove what is not needed, until the loss without any single piece exceeds the target.

    Args:
        subgraph: reaches the target.
        near: of a subgraph, who judges those that differ little from it.
    """
    while (smaller := _sweep(subgraph, near(subgraph))) != subgraph:
        subgraph = smaller
    judge = near(subgraph)
    return Cleaned(subgraph, {piece: judge.loss(subgraph.without(piece)) for piece in subgraph.pieces()})


def _sweep(subgraph: Subgraph, judge: Judge) -> Subgraph:
    for piece in from_the_answer_back(subgraph):
        smaller = subgraph.without(piece)
        if smaller != subgraph and judge.reaches_target(smaller):
            subgraph = smaller
    return subgraph


def from_the_answer_back(subgraph: Subgraph) -> list[Piece]:
    """Return the pieces in reverse firing order, a site's nodes before the edges that reach them."""
    order = {site: place for place, site in enumerate(subgraph.nodes)}
    edges = sorted(subgraph.edges, key=lambda edge: -order[edge.target.site])
    nodes = [Node(site, channel) for site in reversed(subgraph.nodes) for channel in subgraph.nodes[site]]
    return sorted([*nodes, *edges], key=lambda piece: -order[piece.target.site if isinstance(piece, Edge) else piece.site])
