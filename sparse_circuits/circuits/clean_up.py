"""Clean-up: nodes and edges whose removal leaves the validation loss under the target are removed, until there is none.

The paper's authors did it by hand (Gao et al. 2025, section 2.2). Pieces are tried one by one from the answer back to the
tokens, as in ACDC (Conmy et al. 2023), round after round, and what is not needed goes at once. First a glance decides what to
keep: most pieces show on a few prompts that they are needed. When nothing goes any more, every piece is tried in earnest; when
each has been since the last one went, what was measured on the way is the circuit's certificate: without each single node and
without each single edge the loss is at least so much, all of it above the target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import Node

Piece = Node | Edge


class Loss(Protocol):
    """Measures subgraphs that differ little from one that has run."""

    def __call__(self, subgraph: Subgraph, *, proven: bool = True) -> float:
        """Return the largest validation loss of a subgraph's runs, in nats; where it misses the target, as much as shows it.

        Args:
            subgraph: to measure.
            proven: whether a miss is proven, or prompts that have not run are taken to be as they were.
        """
        ...


class Cleaned(NamedTuple):
    """A circuit in which every piece is needed."""

    subgraph: Subgraph
    without: dict[Piece, float]
    """The certificate: what the validation loss is at least, without each node and each edge."""


def clean_up(subgraph: Subgraph, near: Callable[[Subgraph], Loss], *, target_loss: float) -> Cleaned:
    """Remove what is not needed, until the loss without any single piece exceeds the target.

    Args:
        subgraph: reaches the target.
        near: of a subgraph, how to run those that differ little from it; asked anew in every round.
        target_loss: in nats.
    """
    at_a_glance = _cleaned(subgraph, near, target_loss=target_loss, proven=False)
    return _cleaned(at_a_glance.subgraph, near, target_loss=target_loss, proven=True)


def _cleaned(subgraph: Subgraph, near: Callable[[Subgraph], Loss], *, target_loss: float, proven: bool) -> Cleaned:
    measured: dict[frozenset[Piece], float] = {}
    while untried := [piece for piece in from_the_answer_back(subgraph) if _left(subgraph.without(piece)) not in measured]:
        loss_of = near(subgraph)
        for piece in untried:
            smaller = subgraph.without(piece)
            if smaller == subgraph or _left(smaller) in measured:  # went with another, or leaves what another leaves
                continue
            loss = measured[_left(smaller)] = loss_of(smaller, proven=proven)
            if loss <= target_loss:
                subgraph = smaller
    return Cleaned(subgraph, {piece: measured[_left(subgraph.without(piece))] for piece in subgraph.pieces()})


def _left(subgraph: Subgraph) -> frozenset[Piece]:
    return frozenset(subgraph.pieces())


def from_the_answer_back(subgraph: Subgraph) -> list[Piece]:
    """Return the pieces in reverse firing order, a site's nodes before the edges that reach them."""
    order = {site: place for place, site in enumerate(subgraph.nodes)}
    return sorted(
        list(subgraph.pieces()), key=lambda piece: -order[piece.target.site if isinstance(piece, Edge) else piece.site]
    )
