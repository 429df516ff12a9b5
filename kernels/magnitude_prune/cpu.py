"""Magnitude pruning on the CPU: the l0-th magnitude of a tensor in two passes of NumPy instead of a sort.

A strided sample bounds it from below, and only the few entries above the bound are looked at again. Magnitudes are compared
as integers: the bits of |w| sort like |w| itself. The result is exact whatever the sample says; a sample that misjudges only
costs time. What is kept goes by as a list of places, short for the densities of training but for its first steps.

The floor matters only where the threshold leaves some neurons below it. Their `floor` largest entries then move to the head
of the order, which raises the threshold; what it had dropped cannot come back, so that all further looks are at few entries.

float64 has no implementation here: the reference prunes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparse_circuits.kernels.abs_topk.cpu import mark_largest
from sparse_circuits.kernels.launch import thread_map
from sparse_circuits.kernels.magnitude_prune import reference

SAMPLE_SIZE = 1 << 12
INTEGERS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


def prune_many_(weights: Sequence[Tensor], l0s: Sequence[int], floors: Sequence[int], neuron_axes: Sequence[int]) -> None:
    """Prune all tensors, shared among threads."""
    # Largest first, so that threads finish together.
    order = sorted(range(len(weights)), key=lambda i: -weights[i].numel())
    thread_map(lambda i: _prune_(weights[i], l0s[i], floors[i], neuron_axes[i]), order)


def _prune_(weight: Tensor, l0: int, floor: int, neuron_axis: int) -> None:
    if l0 >= weight.numel():
        return
    if weight.dtype not in INTEGERS:
        reference.magnitude_prune_(weight, l0, floor=floor, neuron_axis=neuron_axis)
        return
    values = weight.detach().view(INTEGERS[weight.dtype]).numpy()
    rank = np.bitwise_and(values, np.iinfo(values.dtype).max, order="C")
    places = _largest(rank.reshape(-1), l0)
    if floor:
        places = _with_floor(places, rank, l0, floor, neuron_axis)
    kept = np.take(values, places)
    values[...] = 0
    np.put(values, places, kept)


def _with_floor(places: np.ndarray, rank: np.ndarray, l0: int, floor: int, neuron_axis: int) -> np.ndarray:
    """Return the places to keep instead, so that no neuron is below its floor that has so many nonzeros."""
    n_neurons, width = rank.shape[neuron_axis], rank.shape[1]
    protected = np.zeros(n_neurons, bool)
    while True:
        row = places // width
        neuron = row if neuron_axis == 0 else places - row * width
        below = (np.bincount(neuron, minlength=n_neurons) < floor) & ~protected
        if not below.any():
            return places
        # What such a neuron keeps already is among its largest.
        largest = _protect(rank, np.flatnonzero(below), floor, neuron_axis)
        pool = np.sort(np.append(places[~below[neuron]], largest))
        places = pool[_largest(rank.reshape(-1)[pool], l0)]
        protected |= below


def _protect(rank: np.ndarray, neurons: np.ndarray, floor: int, neuron_axis: int) -> np.ndarray:
    """Move the `floor` largest nonzeros of some neurons, ties to the lower index, to the head of the order; return where."""
    chosen = (rank if neuron_axis == 0 else rank.T)[neurons]
    largest = mark_largest(chosen, floor) if floor < chosen.shape[1] else True
    row, column = np.nonzero((chosen > 0) & largest)
    index = (neurons[row], column) if neuron_axis == 0 else (column, neurons[row])
    rank[index] = np.iinfo(rank.dtype).max
    return np.ravel_multi_index(index, rank.shape)


def _largest(rank: np.ndarray, n: int) -> np.ndarray:
    """Return the places of the n largest positive ranks (fewer when there are fewer), ties going to the lower index."""
    places = _candidates(rank, n)
    rank = rank[places]
    kept = rank > 0
    if (rest := len(rank) - n) > 0:
        threshold = np.partition(rank, rest)[rest] if n else np.iinfo(rank.dtype).max
        tied = np.flatnonzero(rank == threshold)
        kept &= rank >= threshold
        kept[tied[n - np.count_nonzero(rank > threshold) :]] = False
    return places[kept]


def _candidates(rank: np.ndarray, n: int) -> np.ndarray:
    """Return places among which are those of the n largest."""
    if (size := len(rank)) > 16 * SAMPLE_SIZE:
        # A bound a little below where the sample says the n-th largest lies: it holds nearly always, and is checked.
        sample = np.sort(rank[:: size // SAMPLE_SIZE])
        expected = n / size * len(sample)
        slack = 4 * (expected + 1) ** 0.5
        bound = sample[max(0, len(sample) - 1 - int(expected + slack))]
        places = np.flatnonzero(rank >= bound)
        if len(places) >= n:
            return places
    return np.arange(size)
