"""Judging many subgraphs that differ little from one another, without running the same twice."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice, tee
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.branch import row_lengths
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.margin import (
    PAIRS_AT_ONCE,
    Passed,
    Start,
    TapsOf,
    chunk_margins,
    chunks,
    margins_in_order,
    rows_in_order,
    run_through,
    site_before,
)
from sparse_circuits.circuits.side_by_side import Workers, side_by_side
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import Node
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import task_losses
from sparse_circuits.tasks.calibrate import Calibration

if TYPE_CHECKING:
    from sparse_circuits.circuits.discovery.search import Search


FEW = PAIRS_AT_ONCE // 2
"""Pairs that run together first."""


class Trial(NamedTuple):
    """A run of a subgraph, in parts."""

    subgraph: Subgraph
    run: int
    taken: tuple[float, ...]
    """What every part is taken to come to in the mean over all prompts until it has run."""
    of_parts: tuple[float, ...]
    """What those that have run come to."""
    target_loss: float

    @property
    def loss(self) -> float:
        """In the mean over all prompts, or as much of it as is more than the target."""
        return sum(self.of_parts) + sum(self.taken[len(self.of_parts) :])

    @property
    def is_settled(self) -> bool:
        """Whether nothing is left to run, or what has run is enough for a miss."""
        return len(self.of_parts) == len(self.taken) or (len(self.of_parts) > 0 and self.loss > self.target_loss)


class Reruns:
    """Runs subgraphs that differ in a few pieces from one that has run: all before these is taken from there.

    Args:
        search: whose runs.
        base: the subgraph that has run.
        calibration: of the margins.
    """

    @torch.no_grad()
    def __init__(self, search: Search, base: Subgraph, calibration: Calibration) -> None:
        self.model, self.calibration, self.pieces = search.model, calibration, set(base.pieces())
        self.runs = search.runs(within=base)
        self.batch = search.pairs.validation
        passed = [self._run_through(run.taps_of(base)) for run in self.runs]
        self.streams, self.sites = [run.streams for run in passed], list(passed[0].streams)
        losses = [task_losses(calibration(run.margins)) for run in passed]
        self.hardest_first = sorted(range(len(losses)), key=lambda run: -losses[run].sum() / self.runs[run].cost)
        self.chunks = [list(chunks(self.batch, self._pairs_hardest_first(each))) for each in losses]
        self.of_parts = [
            tuple(self._share(of_prompts.unflatten(0, (2, -1))[:, chunk.numbers]) for chunk in some)
            for of_prompts, some in zip(losses, self.chunks, strict=True)
        ]

    @torch.inference_mode()
    def __call__(self, trial: Trial) -> tuple[float, ...]:
        """Run the trial until it is settled and return what the parts that have run come to."""
        site, taps = self._first_difference(trial.subgraph), self.runs[trial.run].taps_of(trial.subgraph)
        while not trial.is_settled:
            chunk = self.chunks[trial.run][len(trial.of_parts)]
            start = Start(site, self.streams[trial.run][site][chunk.numbers, : chunk.rows.tokens.shape[1]])
            margin = chunk_margins(self.model, chunk, taps=taps, start=start)
            trial = trial._replace(of_parts=(*trial.of_parts, self._share(task_losses(self.calibration(margin)))))
        return trial.of_parts

    def _run_through(self, taps: Taps | TapsOf) -> Passed:
        parts = list(chunks(self.batch))
        passed = list(side_by_side(partial(run_through, self.model, taps=taps), parts, device=self.batch.tokens.device))
        streams = {site: rows_in_order(parts, [part.streams[site] for part in passed]) for site in passed[0].streams}
        return Passed(margins_in_order(parts, [part.margins for part in passed]), streams)

    def _pairs_hardest_first(self, losses: Float[Tensor, " n_prompts"]) -> Iterator[Int[Tensor, " n_rows"]]:
        """Yield which pairs run together: first few, which is often enough, then as many as are fastest."""
        of_pairs = losses.unflatten(0, (2, -1)).sum(0)
        order = (of_pairs / row_lengths(self.batch)).argsort(descending=True, stable=True)
        few, rest = order[: 2 * FEW].split(FEW), order[2 * FEW :].split(PAIRS_AT_ONCE)
        yield from (some for some in (*few, *rest) if len(some))

    def _share(self, losses: Tensor) -> float:
        """Return what some prompts' losses come to in the mean over all."""
        return losses.double().sum().item() / len(self.batch.last)

    def _first_difference(self, subgraph: Subgraph) -> str:
        """Return the residual site before the first sublayer in which the subgraph is another."""
        changed = self.pieces.symmetric_difference(subgraph.pieces())
        sites = (piece.target.site if isinstance(piece, Edge) else piece.site for piece in changed)
        return min((site_before(site, self.sites) for site in sites), key=self.sites.index, default=self.sites[-1])


class Nearby:
    """Judges subgraphs that differ in a few pieces from one that has run.

    No loss of a prompt is below 0, so that some prompts of one run can prove that it misses the target: the run of most loss
    for its cost comes first, in every run the pairs of most loss for their length, and what the proof does not need is spared.
    Without proof it is enough that a run misses the target if the other pairs lose what they lost before; a proof goes on from
    there.
    """

    def __init__(self, search: Search, base: Subgraph, calibration: Calibration) -> None:
        reruns = Reruns(search, base, calibration)
        self.search, self.runs, self.before = search, reruns.hardest_first, reruns.of_parts
        self.workers = Workers(reruns, device=search.device, n_ahead=2)
        self.measured: dict[tuple[frozenset[Node | Edge], int], tuple[float, ...]] = {}

    def losses(self, windows: Iterable[Sequence[Subgraph]], *, proven: bool = True) -> Iterator[list[float | None]]:
        """Yield the largest validation loss of each subgraph's runs, as clean_up.py asks for it.

        What the first that reaches the target loses is what others, without proof, are taken to lose from then on.
        """
        target, (worst, *others) = self.search.target_loss, self.runs
        windows, ahead = tee(windows)
        # Most miss the target in the run that comes first; of the others only the first is of use.
        in_worst = self._settle(self._trial(subgraph, worst, proven=proven) for window in ahead for subgraph in window)
        for window in windows:
            first = list(islice(in_worst, len(window)))
            losses: list[float | None] = [trial.loss for trial in first]
            for place, trial in enumerate(first):
                if trial.loss <= target:
                    settled = {worst: trial}
                    for other in self._settle(self._trial(trial.subgraph, run, proven=proven) for run in others):
                        settled[other.run] = other
                        losses[place] = max(losses[place], other.loss)
                        if other.loss > target:
                            break
                    else:
                        self.before = [settled[run].of_parts for run in range(len(settled))]
                        losses[place + 1 :] = [loss if loss > target else None for loss in losses[place + 1 :]]
                        break
            yield losses

    def loss(self, subgraph: Subgraph) -> float:
        """Return the largest validation loss of one subgraph's runs; where it misses the target, as much as proves it."""
        ((loss,),) = self.losses([[subgraph]])
        return loss

    def _trial(self, subgraph: Subgraph, run: int, *, proven: bool) -> Trial:
        taken = (0.0,) * len(self.before[run]) if proven else self.before[run]
        of_parts = self.measured.get((frozenset(subgraph.pieces()), run), ())
        return Trial(subgraph, run, taken, of_parts, self.search.target_loss)

    def _settle(self, trials: Iterable[Trial]) -> Iterator[Trial]:
        trials, ahead = tee(trials)
        for trial, of_parts in zip(trials, self.workers(ahead), strict=True):
            self.measured[frozenset(trial.subgraph.pieces()), trial.run] = of_parts
            yield trial._replace(of_parts=of_parts)
