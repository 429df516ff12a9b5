"""Clean-up: nodes and edges whose removal leaves the validation loss under the target are removed, until there is none.

The paper's authors did it by hand (Gao et al. 2025, section 2.2). Pieces are tried from the answer back to the tokens, as in
ACDC (Conmy et al. 2023), a few at once but each by itself, round after round; of those that are not needed the first goes, and
the others are tried again without it. First a glance decides what to keep: most pieces show on a few prompts that they are
needed. When nothing goes, the round is gone again in earnest; when nothing goes then, what was measured since the last piece
went is the circuit's certificate: without each single node and without each single edge the loss is at least so much, all of it
above the target.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import NamedTuple, Protocol

from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import Node

Piece = Node | Edge


N_AT_ONCE = 2
"""Pieces that are tried side by side, on however many cores, so that the circuit does not depend on the machine."""


class Losses(Protocol):
    """Measures subgraphs that differ little from one that has run."""

    def __call__(self, subgraphs: Sequence[Subgraph], *, proven: bool = True) -> list[float | None]:
        """Return the largest validation loss of each subgraph's runs, in nats; where it misses the target, as much as shows it.

        Behind the first that reaches the target, None for those that are not known to miss it.

        Args:
            subgraphs: to measure.
            proven: whether a miss is proven, or prompts that have not run are taken to be as they were.
        """
        ...


class Cleaned(NamedTuple):
    """A circuit in which every piece is needed."""

    subgraph: Subgraph
    without: dict[Piece, float]
    """The certificate: what the validation loss is at least, without each node and each edge."""


def clean_up(subgraph: Subgraph, near: Callable[[Subgraph], Losses], *, target_loss: float) -> Cleaned:
    """Remove what is not needed, until the loss without any single piece exceeds the target.

    Args:
        subgraph: reaches the target.
        near: of a subgraph, how to run those that differ little from it; asked anew in every round.
        target_loss: in nats.
    """
    needed: dict[bool, dict[frozenset[Piece], float]] = {False: {}, True: {}}  # at a glance, in earnest
    while True:
        before, losses_of = subgraph, near(subgraph)
        for proven, measured in needed.items():
            subgraph = _round(before, partial(losses_of, proven=proven), measured, target_loss=target_loss)
            if subgraph != before:
                break
        else:
            return Cleaned(subgraph, {piece: needed[True][_left(subgraph.without(piece))] for piece in subgraph.pieces()})


def _round(
    subgraph: Subgraph,
    losses_of: Callable[[Sequence[Subgraph]], list[float | None]],
    measured: dict[frozenset[Piece], float],
    *,
    target_loss: float,
) -> Subgraph:
    """Try every piece that has not been tried since the last one went; add what was measured."""
    untried = [piece for piece in from_the_answer_back(subgraph) if _left(subgraph.without(piece)) not in measured]
    while untried:
        window, untried = untried[:N_AT_ONCE], untried[N_AT_ONCE:]
        # Not what went with another; once where two leave the same.
        trials = {_left(part): (piece, part) for piece in window if (part := subgraph.without(piece)) != subgraph}
        trials = {left: trial for left, trial in trials.items() if left not in measured}
        losses = losses_of([part for _, part in trials.values()])
        measured |= {left: loss for left, loss in zip(trials, losses, strict=True) if loss is not None}
        subgraph = next((part for left, (_, part) in trials.items() if measured.get(left, inf) <= target_loss), subgraph)
        untried = [piece for left, (piece, _) in trials.items() if left not in measured] + untried
    return subgraph


def _left(subgraph: Subgraph) -> frozenset[Piece]:
    return frozenset(subgraph.pieces())


def from_the_answer_back(subgraph: Subgraph) -> list[Piece]:
    """Return the pieces in reverse firing order, a site's nodes before the edges that reach them."""
    order = {site: place for place, site in enumerate(subgraph.nodes)}
    return sorted(
        list(subgraph.pieces()), key=lambda piece: -order[piece.target.site if isinstance(piece, Edge) else piece.site]
    )
