"""Clean-up: nodes and edges whose removal leaves the validation loss under the target are removed, until there is none.

The paper's authors did it by hand (Gao et al. 2025, section 2.2). Pieces are tried one by one from the answer back to the
tokens, as in ACDC (Conmy et al. 2023), round after round, and what is not needed goes at once. When every piece has been
tried since the last one went, the circuit's certificate is measured: the loss without each single node and without each single
edge, all of them above the target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import Node

Piece = Node | Edge


class Judge(Protocol):
    """What a subgraph is on validation pairs."""

    def reaches(self, subgraph: Subgraph) -> bool:
        """Return whether its loss is at most the target, in all of its runs."""

    def loss(self, subgraph: Subgraph) -> float:
        """Return the largest loss of its runs, in nats."""


class Cleaned(NamedTuple):
    """A circuit in which every piece is needed."""

    subgraph: Subgraph
    without: dict[Piece, float]
    """The certificate: the validation loss without each node and each edge."""


def clean_up(subgraph: Subgraph, near: Callable[[Subgraph], Judge]) -> Cleaned:
    """Remove what is not needed, until the target is missed without any single piece.

    Args:
        subgraph: reaches the target.
        near: of a subgraph, the judge of those that differ little from it; asked anew in every round.
    """
    needed: set[Piece] = set()
    while untried := [piece for piece in from_the_answer_back(subgraph) if piece not in needed]:
        judge = near(subgraph)
        for piece in untried:
            smaller = subgraph.without(piece)
            if smaller == subgraph:  # went with a node
                continue
            if judge.reaches(smaller):
                subgraph, needed = smaller, set()
            else:
                needed.add(piece)
    judge = near(subgraph)
    return Cleaned(subgraph, {piece: judge.loss(subgraph.without(piece)) for piece in subgraph.pieces()})


def from_the_answer_back(subgraph: Subgraph) -> list[Piece]:
    """Return the pieces in reverse firing order, a site's nodes before the edges that reach them."""
    order = {site: place for place, site in enumerate(subgraph.nodes)}
    return sorted(
        list(subgraph.pieces()), key=lambda piece: -order[piece.target.site if isinstance(piece, Edge) else piece.site]
    )
