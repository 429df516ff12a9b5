"""Clean-up: nodes and edges whose removal leaves the validation loss under the target are removed, until there is none.

The paper's authors did it by hand (Gao et al. 2025, section 2.2). What the last round measured is the circuit's certificate:
the loss without each single node and without each single edge, all of them above the target. A round
1. measures the loss without each piece;
2. removes together as many of the removable as the target allows, those of least effect first, found by halving;
3. then tries the others of them one by one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import Node

Piece = Node | Edge
Loss = Callable[[Subgraph], float]
"""The calibrated validation loss of a subgraph, or, above the target, something above the target."""


class Cleaned(NamedTuple):
    """A circuit in which every piece is needed."""

    subgraph: Subgraph
    without: dict[Piece, float]
    """The certificate: the validation loss without each node and each edge."""


def clean_up(subgraph: Subgraph, near: Callable[[Subgraph], Loss], *, target_loss: float) -> Cleaned:
    """Remove what is not needed, until the loss without any single piece exceeds the target.

    Args:
        subgraph: reaches the target.
        near: of a subgraph, how to run those that differ little from it.
        target_loss: in nats.
    """
    while True:
        loss_of = near(subgraph)
        without = {piece: loss_of(subgraph.without(piece)) for piece in subgraph.pieces()}
        removable = sorted((piece for piece, loss in without.items() if loss <= target_loss), key=without.__getitem__)
        if not removable:
            return Cleaned(subgraph, without)
        n_together = len(removable)
        while loss_of(subgraph.without(*removable[:n_together])) > target_loss:
            n_together //= 2  # one alone is known to reach the target
        subgraph = subgraph.without(*removable[:n_together])
        loss_of = near(subgraph)
        for piece in removable[n_together:]:
            smaller = subgraph.without(piece)
            if smaller != subgraph and loss_of(smaller) <= target_loss:
                subgraph = smaller
