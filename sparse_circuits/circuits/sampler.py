"""A task's pairs in its three splits, and batches of the train split for mask learning."""

from __future__ import annotations

from typing import NamedTuple

import torch

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
    """Random batches of a pool of pairs, each pair once an epoch."""

    def __init__(self, pairs: PairBatch, *, n_pairs: int, seed: int) -> None:
        self.pairs, self.n_pairs = pairs, min(n_pairs, pairs.n_pairs)
        self.generator = torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.int64)

    def next_batch(self) -> PairBatch:
        """Return the next pairs."""
        if len(self.order) < self.n_pairs:
            self.order = torch.randperm(self.pairs.n_pairs, generator=self.generator)
        taken, self.order = self.order[: self.n_pairs], self.order[self.n_pairs :]
        return self.pairs.select(taken.to(self.pairs.tokens.device))
