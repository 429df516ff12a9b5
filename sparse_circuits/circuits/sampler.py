"""A task's pairs in its three splits, and batches of the train split for mask learning."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.tasks import PairBatch


class TaskPairs(NamedTuple):
    """The pairs of one task."""

    train: PairBatch
    """What masks are fitted on."""
    validation: PairBatch
    """What chooses k and the calibration."""
    held_out: PairBatch
    """Read once, for the card."""


class PairSampler:
    """Batches of a pool's pairs, by their numbers, in random order; each pair once an epoch."""

    def __init__(self, n_in_pool: int, *, n_pairs: int, seed: int) -> None:
        self.n_in_pool, self.n_pairs = n_in_pool, min(n_pairs, n_in_pool)
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)

    def next_batch(self) -> Int[Tensor, " n_pairs"]:
        """Return the next pairs."""
        if len(self.order) < self.n_pairs:
            self.order = torch.randperm(self.n_in_pool, generator=self.generator)
        taken, self.order = self.order[: self.n_pairs], self.order[self.n_pairs :]
        return taken
