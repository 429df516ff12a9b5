"""Norms that divide by what they divide by in the unpruned model, on the same prompts.

Otherwise what is ablated can rescale what is kept: one of the routes by which a mask cheats (Drori 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from copy import copy
from enum import Enum

from jaxtyping import Int
from torch import Tensor

from sparse_circuits.circuits.margin import Chunk, TapsOf, chunks, record_chunk, rows_in_order
from sparse_circuits.circuits.side_by_side import side_by_side
from sparse_circuits.model import Transformer
from sparse_circuits.model.sites import rms_sites
from sparse_circuits.model.taps import Taps
from sparse_circuits.run import Autocast
from sparse_circuits.tasks import PairBatch


class Norms(Enum):
    """What RMSNorm divides by in a circuit."""

    free = "free"
    """By the root mean square of what is left (the paper)."""
    frozen = "frozen"
    """By that of the unpruned run."""
    both = "both"
    """A circuit has to hold either way; mask learning tosses a coin in every step."""


class FrozenNorms:
    """The denominators of every norm in an unpruned run of a batch, by its pairs.

    Args:
        model: the unpruned model.
        batch: whose prompts it runs on.
        autocast: makes the context of that run.
    """

    def __init__(self, model: Transformer, batch: PairBatch, *, autocast: Autocast = nullcontext) -> None:
        parts, sites = list(chunks(batch)), rms_sites(model.config)

        def recorded(chunk: Chunk) -> dict[str, Tensor]:
            with autocast():
                return record_chunk(model, chunk, sites, at_ends=True)

        values = list(side_by_side(recorded, parts, device=batch.tokens.device))
        self._rms = {site: rows_in_order(parts, [each[site] for each in values]) for site in sites}

    def of(self, pairs: Int[Tensor, " n_pairs"]) -> FrozenNorms:
        """Return those of some of the batch's pairs, which are then numbered in this order."""
        some = copy(self)
        some._rms = {site: every[pairs] for site, every in self._rms.items()}
        return some

    def under(self, taps: Taps | TapsOf) -> TapsOf:
        """Return these taps, with every norm dividing as in the unpruned run."""

        def frozen(every: Tensor, pairs: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda own: every[pairs, : own.shape[1]].to(own.dtype)

        def taps_of(pairs: Int[Tensor, " n_rows"]) -> Taps:
            own = taps(pairs) if callable(taps) else taps
            return {**own, **{site: frozen(every, pairs) for site, every in self._rms.items()}}

        return taps_of
