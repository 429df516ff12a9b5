"""Magnitude pruning to an exact number of nonzeros (Gao et al. 2025, appendix A.2), fast enough to follow every step.

The l0-th magnitude of a tensor is found in two passes instead of by a sort: a strided sample bounds it from below, and only the
few entries above the bound are partitioned. Magnitudes are compared as integers: the bits of |w| sort like |w| itself.
The result is exact whatever the sample says; a sample that misjudges only costs time.

The floor: of every neuron the `floor` largest entries are kept first, inside the budget. They matter only where a plain
threshold would leave some neuron below the floor; then they are moved to the head of the order and the threshold is found
again.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.kernels.magnitude_prune import reference

SAMPLE_SIZE = 1 << 12
_TOP = np.iinfo(np.int32).max


def magnitude_prune_(weight: Float[Tensor, "*shape"], l0: int, *, floor: int = 0, neuron_axis: int = 0) -> None:
    """Zero, in place, all but the l0 entries of largest magnitude.

    Exactly min(l0, number of nonzeros) entries stay, of equal magnitudes those of lower flat index.

    Args:
        weight: a matrix, or a vector when there is no floor.
        l0: how many entries to keep.
        floor: how many nonzero entries every neuron keeps at least, as far as it has them.
        neuron_axis: 0 when a neuron is a row of the matrix, 1 when it is a column.

    Raises:
        ValueError: l0 is negative or smaller than what the floor alone needs.
    """
    if l0 < floor * (weight.shape[neuron_axis] if floor else 0) or l0 < 0:
        raise ValueError(f"A budget of {l0} nonzeros cannot hold a floor of {floor} in {weight.shape[neuron_axis]} neurons.")
    if l0 >= weight.numel():
        return
    if weight.device.type != "cpu" or weight.dtype != torch.float32:
        reference.magnitude_prune_(weight, l0, floor=floor, neuron_axis=neuron_axis)
        return
    values = weight.detach().numpy()
    rank = values.view(np.int32) & _TOP
    kept = _largest(rank, l0)
    if floor and (kept.sum(axis=1 - neuron_axis) < floor).any():
        _protect(rank, floor, neuron_axis)
        kept = _largest(rank, l0)
    np.copyto(values, 0, where=~kept)


def _protect(rank: np.ndarray, floor: int, neuron_axis: int) -> None:
    """Move the `floor` largest nonzero entries of every neuron to the head of the order, ties to the lower index."""
    by_neuron = rank if neuron_axis == 0 else rank.T
    width = by_neuron.shape[1]
    keys = (by_neuron.astype(np.int64) << 32) | np.arange(width, 0, -1)
    threshold = np.partition(keys, width - floor, axis=1)[:, width - floor, None] if floor < width else 0
    by_neuron[(keys >= threshold) & (by_neuron > 0)] = _TOP


def _largest(rank: np.ndarray, l0: int) -> np.ndarray:
    """Mark the l0 largest positive ranks (fewer when there are fewer), ties going to the lower flat index."""
    if l0 == 0:
        return np.zeros(rank.shape, bool)
    flat = rank.reshape(-1)
    threshold = max(1, _nth_largest(flat, l0))
    kept = flat >= threshold
    surplus = int(np.count_nonzero(kept)) - l0
    if surplus > 0:
        tied = np.flatnonzero(flat == threshold)
        kept[tied[len(tied) - surplus :]] = False
    return kept.reshape(rank.shape)


def _nth_largest(flat: np.ndarray, n: int) -> int:
    size = len(flat)
    if size > 16 * SAMPLE_SIZE:
        # A bound a little below where the sample says the n-th largest lies: it holds nearly always, and is checked.
        sample = np.sort(flat[:: size // SAMPLE_SIZE])
        expected = n / size * len(sample)
        slack = 4 * (expected + 1) ** 0.5
        bound = sample[max(0, len(sample) - 1 - int(expected + slack))]
        candidates = flat[flat >= bound]
        if len(candidates) >= n:
            flat = candidates
    return int(np.partition(flat, len(flat) - n)[len(flat) - n])
