"""Norms that divide by what they divide by in the unpruned model, on the same prompts.

Otherwise what is ablated can rescale what is kept: one of the routes by which a mask cheats (Drori 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.circuits.margin import TapsOf, chunks
from sparse_circuits.model import Transformer, record
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
    """The denominators of every norm in an unpruned run of a batch.

    Args:
        model: the unpruned model.
        batch: whose prompts it runs on.
    """

    @torch.no_grad()
    def __init__(self, model: Transformer, batch: PairBatch) -> None:
        self._rms: dict[str, Tensor] = {}
        for rows, some in chunks(batch):
            for site, rms in record(model, some.tokens, rms_sites(model.config), at=some.last).items():
                every = self._rms.setdefault(site, rms.new_ones(*batch.tokens.shape, 1))
                every[rows, : rms.shape[1]] = rms

    def under(self, taps: Taps | TapsOf) -> TapsOf:
        """Return these taps, with every norm dividing as in the unpruned run."""

        def frozen(every: Tensor, rows: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda own: every[rows, : own.shape[1]].to(own.dtype)

        def taps_of(rows: Int[Tensor, " n_rows"], tokens: Int[Tensor, "n_rows pos"]) -> Taps:
            own = taps(rows, tokens) if callable(taps) else taps
            return {**own, **{site: frozen(every, rows) for site, every in self._rms.items()}}

        return taps_of
