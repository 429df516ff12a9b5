"""A pair of prompts as one row: what both start with once, then the rest of the one, then the rest of the other.

A task's pairs mostly differ near their end, so that this spares close to half of what two rows cost. Every tap works on
it as on any row; what differs is which positions see each other (model/layout.py).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Int, Shaped
from torch import Tensor

from sparse_circuits.model.layout import Layout
from sparse_circuits.tasks import PairBatch


class Branched(NamedTuple):
    """Pairs as rows, padded to the longest."""

    tokens: Int[Tensor, "n_pairs pos"]
    layout: Layout
    twins: Int[Tensor, "n_pairs pos"]
    """Of every position that of the same place in the other prompt; in the shared start itself."""

    @property
    def ends(self) -> Int[Tensor, "n_pairs 2"]:
        """Where the answers are read: of the positive prompt, of the negative one."""
        return self.layout.ends

    def swapped(self, value: Shaped[Tensor, "n_pairs pos_or_2 width"]) -> Shaped[Tensor, "n_pairs pos_or_2 width"]:
        """Return what each position's twin holds, of a site's value at all positions or at the ends."""
        if value.shape[1] == 2:
            return value.flip(1)
        return value.gather(1, self.twins.unsqueeze(-1).expand_as(value))


def branched(batch: PairBatch) -> Branched:
    """Lay out pairs as rows."""
    positive, negative = batch.tokens.view(2, batch.n_pairs, -1)
    n_tokens, n_own = (counts.unsqueeze(1) for counts in _lengths(batch))
    n_shared = n_tokens - n_own
    row = torch.arange(int((n_tokens + n_own).max()), device=positive.device)
    is_negative = row >= n_tokens
    places = torch.where(is_negative, row - n_own, row).minimum(n_tokens - 1)
    tokens = torch.where(is_negative, negative.gather(1, places), positive.gather(1, places))
    is_shared = row < n_shared
    same_prompt = is_shared.unsqueeze(1) | (rearrange(is_negative, "b i -> b i 1") == rearrange(is_negative, "b j -> b 1 j"))
    sees = same_prompt & torch.ones(len(row), len(row), dtype=torch.bool, device=row.device).tril()
    bias = torch.zeros(sees.shape, device=row.device).masked_fill_(~sees, float("-inf"))
    is_padding = row >= n_tokens + n_own
    twins = torch.where(is_shared | is_padding, row, torch.where(is_negative, row - n_own, row + n_own))
    ends = torch.cat([n_tokens, n_tokens + n_own], dim=1) - 1
    return Branched(tokens, Layout(places, bias, ends), twins)


def row_lengths(batch: PairBatch) -> Int[Tensor, " n_pairs"]:
    """Return how many positions each pair takes as a row."""
    return sum(_lengths(batch))


def _lengths(batch: PairBatch) -> tuple[Int[Tensor, " n_pairs"], Int[Tensor, " n_pairs"]]:
    """Return the length of each pair's prompts, and of what is each prompt's own."""
    positive, negative = batch.tokens.view(2, batch.n_pairs, -1)
    last, place = batch.last[: batch.n_pairs], torch.arange(positive.shape[1], device=positive.device)
    # The last token is each prompt's own even where both are alike: an answer is read there.
    n_shared = torch.where(positive != negative, place, last.unsqueeze(1)).amin(1).minimum(last)
    return last + 1, last + 1 - n_shared
