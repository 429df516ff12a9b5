"""From mask parameters to a set of nodes: the fewest top-ranked ones that reach the target loss.

Source: Gao et al. 2025, appendix A.5. The loss is not monotone in k: with more nodes it may rise. So the search
1. starts from the k that training ended with, and doubles it while that misses the target;
2. bisects below the k found;
3. tries the sixteen sizes below the result too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.margin import answer_margins, score
from sparse_circuits.circuits.means import Means
from sparse_circuits.model import Transformer
from sparse_circuits.tasks import PairBatch
from sparse_circuits.tasks.calibrate import Calibration, calibrate

N_BELOW = 16


class Discrete(NamedTuple):
    """What discretisation makes of a mask."""

    kept: Bool[Tensor, " node"]
    calibration: Calibration


@torch.no_grad()
def discretise(
    model: Transformer,
    validation: PairBatch,
    means: Means,
    mask: Float[Tensor, " node"],
    *,
    target_loss: float,
    max_scale: float,
) -> Discrete | None:
    """Return the smallest top-k set found whose calibrated validation loss reaches the target, if any does."""
    tried: dict[int, Discrete] = {}

    def reaches(k: int) -> bool:
        kept = top_nodes(mask, k)
        margin = answer_margins(model, validation, taps=ablation_taps(kept, means, model.config))
        tried[k] = Discrete(kept.cpu(), calibrate(margin, max_scale=max_scale))
        return score(tried[k].calibration(margin)).loss <= target_loss

    k = smallest_size(reaches, start=int((mask > 0).sum()), largest=len(mask))
    return None if k is None else tried[k]


def top_nodes(mask: Float[Tensor, " node"], k: int) -> Bool[Tensor, " node"]:
    """Mark the k nodes of largest mask parameter; ties go to the node that fires first."""
    kept = mask.new_zeros(mask.shape).bool()
    kept[mask.argsort(descending=True, stable=True)[:k]] = True
    return kept


def smallest_size(reaches: Callable[[int], bool], *, start: int, largest: int) -> int | None:
    """Return the smallest k found that reaches the target.

    Args:
        reaches: whether the top k nodes do; may be true and false in any order.
        start: the k to search from, which training ended with.
        largest: all nodes.

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
    return next((k for k in range(max(1, found - N_BELOW), found) if reaches(k)), found)


def _first_reaching(reaches: Callable[[int], bool], *, start: int, largest: int) -> tuple[int, int] | None:
    """Return the last size that misses and the first that reaches, out of start, 2 start, 4 start, ... and all nodes."""
    below, size = 0, max(1, start)
    while not reaches(min(size, largest)):
        if size >= largest:
            return None
        below, size = size, 2 * size
    return below, min(size, largest)
