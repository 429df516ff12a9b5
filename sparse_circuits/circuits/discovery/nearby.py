"""Judging many subgraphs that differ little from one another, without running the same twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.branch import row_lengths
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.margin import PAIRS_AT_ONCE, chunk_margins, chunks, residual_streams, site_before
from sparse_circuits.circuits.side_by_side import side_by_side
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import Node
from sparse_circuits.tasks import PairBatch, task_losses
from sparse_circuits.tasks.calibrate import Calibration

if TYPE_CHECKING:
    from sparse_circuits.circuits.discovery.search import Search


FEW = PAIRS_AT_ONCE // 2
"""Pairs that run together first."""


class Measured(NamedTuple):
    """What a run loses."""

    loss: float
    """In the mean over all prompts, or as much of it as is more than the target."""
    of_chunks: list[float]
    """What those that have run come to in this mean."""


class Nearby:
    """Judges subgraphs that differ in a few pieces from one that has run: all before these is taken from there.

    No loss of a prompt is below 0, so that some prompts of one run can prove that it misses the target: the run that is closest
    to missing comes first, in every run the pairs of most loss for their length, and what the proof does not need is spared.
    Without proof it is enough that a run misses the target if the other pairs lose what they lost before; a proof goes on from
    there.
    """

    @torch.no_grad()
    def __init__(self, search: Search, base: Subgraph, calibration: Calibration) -> None:
        self.search, self.calibration, self.pieces = search, calibration, set(base.pieces())
        losses = [task_losses(calibration(margin)) for margin in search.margins(base)]
        self.runs = sorted(range(len(losses)), key=lambda run: -losses[run].sum())
        self.chunks = [list(chunks(self._batch, self._hardest_first(each))) for each in losses]
        self.before = [
            [self._share(of_prompts.unflatten(0, (2, -1))[:, chunk.numbers]) for chunk in some]
            for of_prompts, some in zip(losses, self.chunks, strict=True)
        ]
        self.streams = [
            list(side_by_side(partial(residual_streams, search.model, taps=taps_of(base)), some, device=search.device))
            for taps_of, some in zip(search.runs(), self.chunks, strict=True)
        ]
        self.sites = list(self.streams[0][0])
        self.measured: dict[tuple[frozenset[Node | Edge], int], list[float]] = {}

    def _hardest_first(self, losses: Float[Tensor, " n_prompts"]) -> Iterator[Int[Tensor, " n_rows"]]:
        """Yield which pairs run together: first few, which is often enough, then as many as are fastest."""
        of_pairs = losses.unflatten(0, (2, -1)).sum(0)
        order = (of_pairs / row_lengths(self._batch)).argsort(descending=True, stable=True)
        few, rest = order[: 2 * FEW].split(FEW), order[2 * FEW :].split(PAIRS_AT_ONCE)
        yield from (some for some in (*few, *rest) if len(some))

    def _share(self, losses: Tensor) -> float:
        """Return what some prompts' losses come to in the mean over all."""
        return losses.double().sum().item() / len(self._batch.last)

    def losses(self, subgraphs: Sequence[Subgraph], *, proven: bool = True) -> list[float | None]:
        """Return the largest validation loss of each subgraph's runs, as clean_up.py asks for it.

        What the first that reaches the target loses is what others, without proof, are taken to lose from then on.
        """
        target, (worst, *rest) = self.search.target_loss, self.runs
        # Most miss the target in the run that is closest to missing; of the others only the first is of use.
        first = list(side_by_side(partial(self._measure, run=worst, proven=proven), subgraphs, device=self.search.device))
        losses: list[float | None] = [measured.loss for measured in first]
        for place, subgraph in enumerate(subgraphs):
            of_chunks = {worst: first[place].of_chunks}
            for run in rest:
                if losses[place] > target:
                    break
                loss, of_chunks[run] = self._measure(subgraph, run, proven=proven)
                losses[place] = max(losses[place], loss)
            if losses[place] <= target:
                self.before = [of_chunks[run] for run in range(len(of_chunks))]
                return [*losses[: place + 1], *(loss if loss > target else None for loss in losses[place + 1 :])]
        return losses

    def loss(self, subgraph: Subgraph) -> float:
        """Return the largest validation loss of one subgraph's runs; where it misses the target, as much as proves it."""
        return self.losses([subgraph])[0]

    def _measure(self, subgraph: Subgraph, run: int, *, proven: bool) -> Measured:
        site, taps = self._first_difference(subgraph), self.search.runs()[run](subgraph)

        def loss_of(number: int) -> float:
            start = self.streams[run][number][site]
            margin = chunk_margins(self.search.model, self.chunks[run][number], taps=taps, start=start)
            return self._share(task_losses(self.calibration(margin)))

        rest = [0.0 if proven else before for before in self.before[run]]
        of_chunks = self.measured.setdefault((frozenset(subgraph.pieces()), run), [])

        def loss() -> float:
            return sum(of_chunks) + sum(rest[len(of_chunks) :])

        if not of_chunks or loss() <= self.search.target_loss:
            for each in side_by_side(loss_of, range(len(of_chunks), len(rest)), device=self.search.device):
                of_chunks.append(each)
                if loss() > self.search.target_loss:
                    break
        return Measured(loss(), of_chunks)

    @property
    def _batch(self) -> PairBatch:
        return self.search.pairs.validation

    def _first_difference(self, subgraph: Subgraph) -> str:
        """Return the residual site before the first sublayer in which the subgraph is another."""
        changed = self.pieces.symmetric_difference(subgraph.pieces())
        sites = (piece.target.site if isinstance(piece, Edge) else piece.site for piece in changed)
        return min((site_before(site, self.sites) for site in sites), key=self.sites.index, default=self.sites[-1])
