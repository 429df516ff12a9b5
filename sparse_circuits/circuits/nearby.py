"""Judging many subgraphs that differ little from one another, without running the same twice."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.branch import row_lengths
from sparse_circuits.circuits.clean_up import Piece
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.margin import chunk_margins, chunks, residual_streams
from sparse_circuits.circuits.side_by_side import side_by_side
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model.sites import FINAL
from sparse_circuits.tasks import PairBatch, task_losses
from sparse_circuits.tasks.calibrate import Calibration

if TYPE_CHECKING:
    from sparse_circuits.circuits.search import Search


class Nearby:
    """Judges subgraphs that differ in a few pieces from one that has run: all before these is taken from there.

    No loss of a prompt is below 0, so that some prompts of one run can prove that it misses the target: the run that is closest
    to missing comes first, in every run the pairs of most loss for their length, and what the proof does not need is spared.
    Without proof it is enough that a run misses the target if the other pairs lose what they lost before.
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
            list(side_by_side(partial(residual_streams, search.model, taps=taps), some, device=search.device))
            for taps, some in zip(search.runs(base), self.chunks, strict=True)
        ]
        self.sites = list(self.streams[0][0])

    def _hardest_first(self, losses: Float[Tensor, " n_prompts"]) -> Int[Tensor, " n_pairs"]:
        of_pairs = losses.unflatten(0, (2, -1)).sum(0)
        return (of_pairs / row_lengths(self._batch)).argsort(descending=True, stable=True)

    def _share(self, losses: Tensor) -> float:
        """Return what some prompts' losses come to in the mean over all."""
        return losses.double().sum().item() / len(self._batch.last)

    def __call__(self, subgraph: Subgraph, *, proven: bool = True) -> float:
        """Return the largest validation loss of the subgraph's runs, as clean_up.py asks for it."""
        worst = 0.0
        for run in self.runs:
            worst = max(worst, self._loss(subgraph, run, proven=proven))
            if worst > self.search.target_loss:
                break
        return worst

    def _loss(self, subgraph: Subgraph, run: int, *, proven: bool) -> float:
        """Return the loss of a run, or as much of it as is more than the target."""
        site, taps = self._first_difference(subgraph), next(islice(self.search.runs(subgraph), run, None))

        def loss_of(number: int) -> float:
            start = self.streams[run][number][site]
            margin = chunk_margins(self.search.model, self.chunks[run][number], taps=taps, start=start)
            return self._share(task_losses(self.calibration(margin)))

        rest = [0.0 if proven else before for before in self.before[run]]
        loss = sum(rest)
        for more, assumed in zip(side_by_side(loss_of, range(len(rest)), device=self.search.device), rest, strict=True):
            loss += more - assumed
            if loss > self.search.target_loss:
                break
        return loss

    @property
    def _batch(self) -> PairBatch:
        return self.search.pairs.validation

    def _first_difference(self, subgraph: Subgraph) -> str:
        """Return the residual site before the first sublayer in which the subgraph is another."""
        changed = self.pieces.symmetric_difference(subgraph.pieces())
        return min((_site_before(piece, self.sites) for piece in changed), key=self.sites.index, default=self.sites[-1])


def _site_before(piece: Piece, sites: list[str]) -> str:
    """Return where the stream is read by the sublayer of a piece; the last norm's is taken up before the last sublayer."""
    site = piece.target.site if isinstance(piece, Edge) else piece.site
    if site == FINAL:
        return sites[-1]
    layer, sublayer, _ = site.split(".")
    return f"{layer}.{'resid_in' if sublayer == 'attn' else 'resid_mid'}"
