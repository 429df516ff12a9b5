"""Norms that divide by what they divide by in the unpruned model, on the same prompts.

Otherwise what is ablated can rescale what is kept: one of the routes by which a mask cheats (Drori 2026).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.circuits.branch import row_lengths
from sparse_circuits.circuits.margin import TapsOf, chunks, record_chunk
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
        self._rms: dict[str, Tensor] = {}
        longest = int(row_lengths(batch).max())
        for chunk in chunks(batch):
            for site, rms in record_chunk(model, chunk, rms_sites(model.config), at_ends=True).items():
                every = self._rms.setdefault(site, rms.new_ones(batch.n_pairs, longest, 1))
                every[chunk.numbers, : rms.shape[1]] = rms

    def under(self, taps: Taps | TapsOf) -> TapsOf:
        """Return these taps, with every norm dividing as in the unpruned run."""

        def frozen(every: Tensor, pairs: Tensor) -> Callable[[Tensor], Tensor]:
            return lambda own: every[pairs, : own.shape[1]].to(own.dtype)

        def taps_of(pairs: Int[Tensor, " n_rows"]) -> Taps:
            own = taps(pairs) if callable(taps) else taps
            return {**own, **{site: frozen(every, pairs) for site, every in self._rms.items()}}

        return taps_of
