"""Clean-up: nodes and edges whose removal leaves the validation loss under the target are removed, until there is none.

The paper's authors did it by hand (Gao et al. 2025, section 2.2). Pieces are tried from the answer back to the tokens, as in
ACDC (Conmy et al. 2023), a few at once but each by itself, round after round; of those that are not needed the first goes, and
the others are tried again without it. First a glance decides what to keep: most pieces show on a few prompts that they are
needed. When nothing goes, the round is gone again in earnest; when nothing goes then, what was measured since the last piece
went is the circuit's certificate: without each single node and without each single edge the loss is at least so much, all of it
above the target.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import tee
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

    def __call__(self, windows: Iterable[Sequence[Subgraph]], *, proven: bool = True) -> Iterator[list[float | None]]:
        """Yield the largest validation loss of each subgraph's runs, in nats; where it misses the target, as much as shows it.

        Behind a window's first that reaches the target, None for those that are not known to miss it.

        Args:
            windows: subgraphs to measure; later ones may be begun before what was found in earlier ones is asked for.
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
    losses_of: Callable[[Iterable[Sequence[Subgraph]]], Iterator[list[float | None]]],
    measured: dict[frozenset[Piece], float],
    *,
    target_loss: float,
) -> Subgraph:
    """Try every piece that has not been tried since the last one went; add what was measured."""
    without = cache(partial(_without, subgraph))
    pieces = [piece for piece in from_the_answer_back(subgraph) if without(piece).left not in measured]
    while pieces:
        windows, ahead = tee(_windows(without, pieces, measured))
        of_windows = losses_of([removal.part for removal in window.removals] for window in ahead)
        for (removals, rest), losses in zip(windows, of_windows, strict=True):
            measured |= {removal.left: loss for removal, loss in zip(removals, losses, strict=True) if loss is not None}
            if fit := [removal.part for removal in removals if measured.get(removal.left, inf) <= target_loss]:
                subgraph, pieces = fit[0], [removal.piece for removal in removals if removal.left not in measured] + rest
                without, inside = cache(partial(_without, subgraph)), _left(subgraph)
                pieces = [piece for piece in pieces if piece in inside]  # some went with this one
                break
        else:
            break
    return subgraph


class Removal(NamedTuple):
    """A piece that may go."""

    piece: Piece
    part: Subgraph
    """Without it."""
    left: frozenset[Piece]
    """In this part."""


class Window(NamedTuple):
    """What is tried side by side."""

    removals: list[Removal]
    rest: list[Piece]
    """Behind them."""


def _without(subgraph: Subgraph, piece: Piece) -> Removal:
    part = subgraph.without(piece)
    return Removal(piece, part, _left(part))


def _windows(
    without: Callable[[Piece], Removal], pieces: list[Piece], measured: Container[frozenset[Piece]]
) -> Iterator[Window]:
    """Yield what to try: once where two leave the same."""
    for start in range(0, len(pieces), N_AT_ONCE):
        some, rest = pieces[start : start + N_AT_ONCE], pieces[start + N_AT_ONCE :]
        removals = {(removal := without(piece)).left: removal for piece in some}
        yield Window([removal for left, removal in removals.items() if left not in measured], rest)


def _left(subgraph: Subgraph) -> frozenset[Piece]:
    return frozenset(subgraph.pieces())


def from_the_answer_back(subgraph: Subgraph) -> list[Piece]:
    """Return the pieces in reverse firing order, a site's nodes before the edges that reach them."""
    order = {site: place for place, site in enumerate(subgraph.nodes)}
    return sorted(
        list(subgraph.pieces()), key=lambda piece: -order[piece.target.site if isinstance(piece, Edge) else piece.site]
    )
