"""The validation loss of many subgraphs that differ little from one another, without running the same twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sparse_circuits.circuits.clean_up import Piece
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.margin import answer_margins, residual_streams, score
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model.sites import FINAL
from sparse_circuits.tasks.calibrate import Calibration

if TYPE_CHECKING:
    from sparse_circuits.circuits.search import Search


class Nearby:
    """The validation loss of subgraphs that differ in a few pieces from one that has run: all before these is taken from there.

    The run that is closest to the target comes first, and those behind one that misses it are spared.
    """

    @torch.no_grad()
    def __init__(self, search: Search, base: Subgraph, calibration: Calibration) -> None:
        self.search, self.calibration, self.pieces = search, calibration, set(base.pieces())
        batch = search.pairs.validation
        self.streams = [residual_streams(search.model, batch, taps=taps) for taps in search.runs(base)]
        losses = [score(calibration(margin)).loss for margin in search.margins(base)]
        self.order = sorted(range(len(losses)), key=lambda run: -losses[run])

    @torch.no_grad()
    def __call__(self, subgraph: Subgraph) -> float:
        """Return the largest loss of its runs, up to the first that misses the target."""
        site, search = self._first_difference(subgraph), self.search
        runs, worst = list(search.runs(subgraph)), 0.0
        for run in self.order:
            start = self.streams[run][site]
            margin = answer_margins(search.model, search.pairs.validation, taps=runs[run], start=start)
            worst = max(worst, score(self.calibration(margin)).loss)
            if worst > search.target_loss:
                break
        return worst

    def _first_difference(self, subgraph: Subgraph) -> str:
        """Return the residual site before the first sublayer in which the subgraph is another."""
        sites = list(self.streams[0])
        changed = self.pieces.symmetric_difference(subgraph.pieces())
        return min((_site_before(piece, sites) for piece in changed), key=sites.index, default=sites[-1])


def _site_before(piece: Piece, sites: list[str]) -> str:
    """Return where the stream is read by the sublayer of a piece; the last norm's is taken up before the last sublayer."""
    site = piece.target.site if isinstance(piece, Edge) else piece.site
    if site == FINAL:
        return sites[-1]
    layer, sublayer, _ = site.split(".")
    return f"{layer}.{'resid_in' if sublayer == 'attn' else 'resid_mid'}"
