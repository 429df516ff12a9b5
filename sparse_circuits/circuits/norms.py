"""Norms that divide by what they divide by in the unpruned model, on the same prompts.

Otherwise what is ablated can rescale what is kept: one of the routes by which a mask cheats (Drori 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.circuits.margin import TapsOf, chunks, record_chunk, rows_in_order
from sparse_circuits.model import Transformer
from sparse_circuits.model.sites import rms_sites
from sparse_circuits.model.taps import Taps
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
    """

    @torch.no_grad()
    def __init__(self, model: Transformer, batch: PairBatch) -> None:
        parts, sites = list(chunks(batch)), rms_sites(model.config)
        recorded = [record_chunk(model, chunk, sites, at_ends=True) for chunk in parts]
        self._rms = {site: rows_in_order(parts, [values[site] for values in recorded]) for site in sites}

    def under(self, taps: Taps | TapsOf) -> TapsOf:
        """Return these taps, with every norm dividing as in the unpruned run."""

        def frozen(every: Tensor, pairs: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda own: every[pairs, : own.shape[1]].to(own.dtype)

        def taps_of(pairs: Int[Tensor, " n_rows"]) -> Taps:
            own = taps(pairs) if callable(taps) else taps
            return {**own, **{site: frozen(every, pairs) for site, every in self._rms.items()}}

        return taps_of
