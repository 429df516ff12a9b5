"""Judging many subgraphs that differ little from one another, without running the same twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate, islice
from typing import TYPE_CHECKING

import torch

from sparse_circuits.circuits.clean_up import Piece
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.margin import chunk_margins, chunks, residual_streams
from sparse_circuits.circuits.side_by_side import side_by_side
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model.sites import FINAL
from sparse_circuits.tasks import task_losses
from sparse_circuits.tasks.calibrate import Calibration

if TYPE_CHECKING:
    from sparse_circuits.circuits.search import Search


class Nearby:
    """Judges subgraphs that differ in a few pieces from one that has run: all before these is taken from there.

    No loss of a prompt is below 0, so that some prompts of one run can prove that it misses the target: the run that is closest
    to missing comes first, in every run the prompts with the largest losses, and what the proof does not need is spared.
    """

    @torch.no_grad()
    def __init__(self, search: Search, base: Subgraph, calibration: Calibration) -> None:
        self.search, self.calibration, self.pieces = search, calibration, set(base.pieces())
        self.chunks = list(chunks(search.pairs.validation))
        runs = list(search.runs(base))
        self.streams = [[residual_streams(search.model, chunk, taps=taps) for chunk in self.chunks] for taps in runs]
        self.sites = list(self.streams[0][0])
        losses = [list(self._chunk_losses(base, run, range(len(self.chunks)))) for run in range(len(runs))]
        self.runs = sorted(range(len(runs)), key=lambda run: -sum(losses[run]))
        self.hardest_first = [sorted(range(len(self.chunks)), key=lambda number: -of_run[number]) for of_run in losses]

    def reaches(self, subgraph: Subgraph) -> bool:
        """Return whether every run of the subgraph reaches the target."""
        return all(self._reaches(subgraph, run) for run in self.runs)

    def loss(self, subgraph: Subgraph) -> float:
        """Return the largest validation loss of the subgraph's runs, in nats."""
        return max(sum(self._chunk_losses(subgraph, run, self.hardest_first[run])) for run in self.runs) / self._n_prompts

    def _reaches(self, subgraph: Subgraph, run: int) -> bool:
        bound = self.search.target_loss * self._n_prompts
        losses = self._chunk_losses(subgraph, run, self.hardest_first[run])
        return all(total <= bound for total in accumulate(losses))

    def _chunk_losses(self, subgraph: Subgraph, run: int, numbers: Iterable[int]) -> Iterator[float]:
        """Yield the summed losses of the prompts of these chunks in a run."""
        site, taps = self._first_difference(subgraph), next(islice(self.search.runs(subgraph), run, None))

        def loss_of(number: int) -> float:
            margin = chunk_margins(self.search.model, self.chunks[number], taps=taps, start=self.streams[run][number][site])
            return task_losses(self.calibration(margin)).double().sum().item()

        return side_by_side(loss_of, numbers, device=self.search.device)

    @property
    def _n_prompts(self) -> int:
        return len(self.search.pairs.validation.last)

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
