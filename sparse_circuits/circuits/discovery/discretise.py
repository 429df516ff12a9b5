"""From mask parameters to a set of units: the fewest top-ranked nodes, or edges, that reach the target loss.

Source: Gao et al. 2025, appendix A.5. The loss is not monotone in k: with more units it may rise. So the search
1. starts from the k that training ended with, and doubles it while that misses the target;
2. bisects below the k found;
3. tries the sixteen sizes below the result too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.margin import pooled, score
from sparse_circuits.tasks.calibrate import Calibration, calibrate

N_BELOW = 16

Margins = Callable[[Bool[Tensor, " unit"]], Iterable[Float[Tensor, " n_prompts"]]]
"""The margins on validation pairs when only these units are kept, in one run or in several that all have to do."""


class Discrete(NamedTuple):
    """What discretisation makes of a mask."""

    kept: Bool[Tensor, " unit"]
    calibration: Calibration


@torch.no_grad()
def discretise(
    rank: Float[Tensor, " unit"],
    margins: Margins,
    *,
    start: int,
    target_loss: float,
    max_scale: float,
    n_below: int = N_BELOW,
    also: Sequence[Float[Tensor, " n_prompts"]] = (),
) -> Discrete | None:
    """Return the smallest top-k set found whose calibrated validation loss reaches the target, if any does.

    Args:
        rank: mask parameters, or any other score by which units are ranked.
        margins: runs a set of units.
        start: the size to search from, which training ended with.
        target_loss: in nats, after calibration.
        max_scale: bound of the calibration.
        n_below: sizes below the result of the bisection to try too.
        also: margins that the calibration is fitted to as well.
    """
    tried: dict[int, Discrete] = {}

    def reaches(k: int) -> bool:
        kept, runs = top_units(rank, k), []
        for margin in margins(kept):
            runs.append(margin)
            if score(calibrate(margin, max_scale=max_scale)(margin)).loss > target_loss:
                return False  # no calibration for all runs does more for this one
        tried[k] = Discrete(kept.cpu(), calibrate(pooled(torch.stack([*runs, *also])), max_scale=max_scale))
        return all(score(tried[k].calibration(margin)).loss <= target_loss for margin in runs)

    k = smallest_size(reaches, start=start, largest=len(rank), n_below=n_below)
    return None if k is None else tried[k]


def top_units(rank: Float[Tensor, " unit"], k: int) -> Bool[Tensor, " unit"]:
    """Mark the k units of highest rank; ties go to the first."""
    kept = rank.new_zeros(rank.shape).bool()
    kept[rank.argsort(descending=True, stable=True)[:k]] = True
    return kept


def smallest_size(reaches: Callable[[int], bool], *, start: int, largest: int, n_below: int = N_BELOW) -> int | None:
    """Return the smallest k found that reaches the target.

    Args:
        reaches: whether the top k nodes do; may be true and false in any order.
        start: the k to search from, which training ended with.
        largest: all units.
        n_below: sizes below the result of the bisection to try too.

    Returns:
        A k for which `reaches` was true, or None where it is false for start, its doublings and all nodes.
    """
    upper = _first_reaching(reaches, start=start, largest=largest)
    if upper is None:
        return None
    below, found = upper
    while found - below > 1:
        middle = (below + found) // 2
        if reaches(middle):
            found = middle
        else:
            below = middle
    return next((k for k in range(max(1, found - n_below), found) if reaches(k)), found)


def _first_reaching(reaches: Callable[[int], bool], *, start: int, largest: int) -> tuple[int, int] | None:
    """Return the last size that misses and the first that reaches, out of start, 2 start, 4 start, ... and all nodes."""
    below, size = 0, max(1, start)
    while not reaches(min(size, largest)):
        if size >= largest:
            return None
        below, size = size, 2 * size
    return below, min(size, largest)
