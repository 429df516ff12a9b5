"""What a finetune of a sparse model changed, weight by weight: born, dead, flipped, or merely moved.

A finetune of a dense model moves every weight a little; one of a sparse model under the same budget is a short list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.diffs.maps import linear_map, weights_of
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff


class Fate(Enum):
    """What became of a weight."""

    born = "born"
    """Zero before, not after."""
    dead = "dead"
    """Zero after, not before."""
    flipped = "flipped"
    """Of the other sign."""
    moved = "moved"
    """Another value of the same sign."""


class WeightChange(NamedTuple):
    """One weight that a finetune changed."""

    name: str
    """Of its parameter."""
    index: tuple[int, ...]
    before: float
    after: float

    @property
    def fate(self) -> Fate:
        if self.before == 0:
            return Fate.born
        if self.after == 0:
            return Fate.dead
        return Fate.flipped if self.before * self.after < 0 else Fate.moved


def count_fates(base: nn.Module, diff: WeightDiff) -> dict[str, Counter[Fate]]:
    """Return how many weights of every changed parameter had which fate."""
    found = {}
    for name, before, after in _pairs(base, diff):
        zero_before, zero_after = before == 0, after == 0
        counts = Counter[Fate]()
        counts[Fate.born] = int((zero_before & ~zero_after).sum())
        counts[Fate.dead] = int((zero_after & ~zero_before).sum())
        counts[Fate.flipped] = int((before * after < 0).sum())
        counts[Fate.moved] = int((before != after).sum()) - counts.total()
        found[name] = counts
    return found


def largest_changes(base: nn.Module, diff: WeightDiff, *, n: int) -> list[WeightChange]:
    """Return the weights that moved furthest, the furthest first."""
    found: list[WeightChange] = []
    for name, before, after in _pairs(base, diff):
        apart = (after - before).abs().flatten()
        for place in apart.topk(min(n, apart.numel())).indices.tolist():
            index = []
            for size in reversed(before.shape):
                index.append(place % size)
                place //= size
            at = tuple(reversed(index))
            found.append(WeightChange(name, at, before[at].item(), after[at].item()))
    found.sort(key=lambda change: -abs(change.after - change.before))
    return [change for change in found[:n] if change.before != change.after]


def changed(base: nn.Module, diff: WeightDiff) -> dict[str, Float[Tensor, "*shape"]]:
    """Return what is added to every changed parameter, as that is stored."""
    own, found = dict(weights_of(base).named_parameters()), {}
    for name, change in diff.changes.items():
        delta = change.matrix()
        is_transposed = isinstance(change, LowRank) and linear_map(base, name).is_transposed
        found[name] = (delta.T if is_transposed else delta).to(own[name])
    return found


def _pairs(base: nn.Module, diff: WeightDiff) -> Iterator[tuple[str, Float[Tensor, "*shape"], Float[Tensor, "*shape"]]]:
    """Yield every changed parameter before and after."""
    own = dict(weights_of(base).named_parameters())
    for name, delta in changed(base, diff).items():
        before = own[name].detach()
        yield name, before, before + delta
