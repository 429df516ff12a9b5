"""A counted bigram table: what the current token alone says of the next, the least that a hybrid pass has to beat."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

PRIORS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Tokens that the next token's overall frequency counts for."""


class BigramCounts:
    """How often one token follows another.

    Args:
        rows: pieces of text.
        d_vocab: token ids that there are.
    """

    def __init__(self, rows: Int[Tensor, "n_rows pos_plus_one"], *, d_vocab: int) -> None:
        self.d_vocab = d_vocab
        tokens, targets = rows[:, :-1].flatten().long(), rows[:, 1:].flatten().long()
        self.pairs, self.counts = (tokens * d_vocab + targets).unique(return_counts=True)
        self.first = torch.bincount(tokens, minlength=d_vocab)
        self.shares = (torch.bincount(targets, minlength=d_vocab) + 1) / (len(targets) + d_vocab)

    def losses(self, tokens: Int[Tensor, " *rows"], targets: Int[Tensor, " *rows"], *, prior: float) -> Float[Tensor, " *rows"]:
        """Return the surprise at every target, in nats."""
        pair = tokens.long() * self.d_vocab + targets.long()
        place = torch.searchsorted(self.pairs, pair).clamp_max(len(self.pairs) - 1)
        count = torch.where(self.pairs[place] == pair, self.counts[place], 0)
        return -((count + prior * self.shares[targets.long()]) / (self.first[tokens.long()] + prior)).log()

    def loss(self, batches: Iterable[Int[Tensor, "batch pos_plus_one"]]) -> float:
        """Return the mean loss over batches, in nats, with the prior that makes it least: a rival at its best."""
        batches = [batch.cpu() for batch in batches]
        each = [
            torch.cat([self.losses(batch[:, :-1], batch[:, 1:], prior=prior).flatten() for batch in batches]).mean().item()
            for prior in PRIORS
        ]
        return min(each)
