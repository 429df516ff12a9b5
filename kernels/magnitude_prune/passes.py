"""The passes over all weights: the first count, with the update and the floor, further counts, and the mask.

search.py says what they are for. Every program takes a strip, and strips of rows and of columns have their own tiles, so that
neighbours in memory are read together.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sparse_circuits.kernels.abs_topk.magnitude import magnitude
from sparse_circuits.kernels.magnitude_prune.search import BINS, GROUPS, KEEP_ALL, NOWHERE, bin_of, bracket, order_of
from sparse_circuits.kernels.magnitude_prune.table import (
    BY_COLUMNS,
    ENTRIES,
    FIRST_NEURON,
    FLOOR,
    GROUP,
    INDEX_BITS,
    LOW,
    N_ABOVE,
    N_PROTECTED,
    NEURONS,
    SHIFT,
    WEIGHT,
    field,
    first_tile,
    neurons,
    pointer,
    shape_of,
    strip_of,
    tile,
)
from sparse_circuits.kernels.magnitude_prune.update import read

BEYOND = tl.constexpr((1 << 63) - 1)
"""Above every place."""


@triton.jit
def _empty_slots(floor, n: tl.constexpr, KEEP: tl.constexpr):
    """Return slots (n, KEEP) for places: `floor` of them below every place and all different, the others never the least."""
    slot = tl.arange(0, KEEP).to(tl.int64)[None, :]
    return tl.where(slot < floor, -1 - slot, BEYOND) + tl.zeros((n, 1), tl.int64)


@triton.jit
def _with_largest(slots, order):
    """Return each neuron's slots filled with the largest of what they hold and of a tile's places."""
    largest, least = tl.max(order, axis=1)[:, None], tl.min(slots, axis=1)[:, None]
    while tl.max((largest > least).to(tl.int32)) > 0:
        slots = tl.where(slots == least, tl.maximum(largest, least), slots)
        order = tl.where(order == largest, NOWHERE, order)
        largest, least = tl.max(order, axis=1)[:, None], tl.min(slots, axis=1)[:, None]
    return slots


@triton.jit
def first_kernel(
    table_ptr,  # (fields, TENSORS)
    histogram_ptr,  # (n_tensors, BINS)
    fence_ptr,  # (n_neurons,)
    mark_ptr,  # (n_tiles, GROUPS)
    READ: tl.constexpr,
    DTYPE: tl.constexpr,
    KEEP: tl.constexpr,
    TENSORS: tl.constexpr,
    VECTOR: tl.constexpr,
):
    tensor, strip = strip_of(table_ptr, TENSORS)
    if field(table_ptr, tensor, BY_COLUMNS, TENSORS) == 1:
        _first(table_ptr, histogram_ptr, fence_ptr, mark_ptr, tensor, strip, True, READ, DTYPE, KEEP, TENSORS, VECTOR)
    else:
        _first(table_ptr, histogram_ptr, fence_ptr, mark_ptr, tensor, strip, False, READ, DTYPE, KEEP, TENSORS, VECTOR)


@triton.jit
def _first(
    table_ptr,
    histogram_ptr,
    fence_ptr,
    mark_ptr,
    tensor,
    strip,
    COLUMNS: tl.constexpr,
    READ: tl.constexpr,
    DTYPE: tl.constexpr,
    KEEP: tl.constexpr,
    TENSORS: tl.constexpr,
    VECTOR: tl.constexpr,
):
    shape = shape_of(table_ptr, tensor, COLUMNS, TENSORS, VECTOR)
    low, high, shift = bracket(table_ptr, tensor, TENSORS)
    index_bits = field(table_ptr, tensor, INDEX_BITS, TENSORS)
    histogram_ptr += tensor.to(tl.int64) * BINS
    mark_ptr += first_tile(table_ptr, tensor, strip, COLUMNS, TENSORS) * GROUPS
    # This count is of whole magnitudes: the bracket's bounds are, and its bins are no narrower.
    low_key, high_key = (low >> index_bits).to(tl.int32), (high >> index_bits).to(tl.int32)
    slots = _empty_slots(field(table_ptr, tensor, FLOOR, TENSORS), NEURONS[COLUMNS], KEEP)
    n_above = tl.full((), 0, tl.int64)
    for start in range(0, shape[1], ENTRIES[COLUMNS]):
        index, inside = tile(shape, strip, start, COLUMNS)
        weight = READ(table_ptr, tensor, index, inside, True, DTYPE, TENSORS, VECTOR)
        if shift >= 0:
            key = tl.where(inside, magnitude(weight), 0)
            counted = (key >= tl.maximum(low_key, 1)) & (key < high_key)
            bin = bin_of(key, low_key, shift - index_bits)
            tl.atomic_add(histogram_ptr + bin.to(tl.int32), 1, mask=counted, sem="relaxed")
            tl.store(mark_ptr + (bin & (GROUPS - 1)).to(tl.int32), 1, mask=counted)
            n_above += tl.sum((key >= high_key).to(tl.int32))
            slots = _with_largest(slots, order_of(key, index, index_bits))
        mark_ptr += GROUPS
    if shift >= 0:
        neuron = neurons(shape, strip, COLUMNS)
        fence = tl.maximum(tl.min(slots, axis=1)[:, None], 0)
        tl.store(fence_ptr + field(table_ptr, tensor, FIRST_NEURON, TENSORS) + neuron, fence, mask=neuron < shape[0])
        # What the fence protects stays whatever the threshold, so it leaves the counts and is counted apart.
        protected = (slots >= 0) & (slots != BEYOND)
        counted = protected & (slots >= low) & (slots < high)
        tl.atomic_add(histogram_ptr + bin_of(slots, low, shift).to(tl.int32), -1, mask=counted, sem="relaxed")
        n_above -= tl.sum((protected & (slots >= high)).to(tl.int32))
        tl.atomic_add(table_ptr + N_ABOVE * TENSORS + tensor, n_above, sem="relaxed")
        tl.atomic_add(table_ptr + N_PROTECTED * TENSORS + tensor, tl.sum(protected.to(tl.int32)).to(tl.int64), sem="relaxed")


@triton.jit
def count_kernel(
    table_ptr,  # (fields, TENSORS)
    histogram_ptr,  # (n_tensors, BINS)
    fence_ptr,  # (n_neurons,)
    mark_ptr,  # (n_tiles, GROUPS)
    DTYPE: tl.constexpr,
    TENSORS: tl.constexpr,
    VECTOR: tl.constexpr,
):
    tensor, strip = strip_of(table_ptr, TENSORS)
    if field(table_ptr, tensor, SHIFT, TENSORS) >= 0:
        if field(table_ptr, tensor, BY_COLUMNS, TENSORS) == 1:
            _count(table_ptr, histogram_ptr, fence_ptr, mark_ptr, tensor, strip, True, DTYPE, TENSORS, VECTOR)
        else:
            _count(table_ptr, histogram_ptr, fence_ptr, mark_ptr, tensor, strip, False, DTYPE, TENSORS, VECTOR)


@triton.jit
def _count(
    table_ptr,
    histogram_ptr,
    fence_ptr,
    mark_ptr,
    tensor,
    strip,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
    TENSORS: tl.constexpr,
    VECTOR: tl.constexpr,
):
    shape = shape_of(table_ptr, tensor, COLUMNS, TENSORS, VECTOR)
    low, high, shift = bracket(table_ptr, tensor, TENSORS)
    index_bits = field(table_ptr, tensor, INDEX_BITS, TENSORS)
    group = field(table_ptr, tensor, GROUP, TENSORS)
    fence = _fences(table_ptr, fence_ptr, shape, tensor, strip, COLUMNS, TENSORS)
    histogram_ptr += tensor.to(tl.int64) * BINS
    mark_ptr += first_tile(table_ptr, tensor, strip, COLUMNS, TENSORS) * GROUPS
    for start in range(0, shape[1], ENTRIES[COLUMNS]):
        # Without a group the bracket is none of the bins that the marks speak of.
        if (group < 0) | (tl.load(mark_ptr + tl.maximum(group, 0)) > 0):
            index, inside = tile(shape, strip, start, COLUMNS)
            weight = read(table_ptr, tensor, index, inside, False, DTYPE, TENSORS, VECTOR)
            order = order_of(magnitude(weight), index, index_bits)
            counted = (order >= low) & (order < high) & (order < fence)
            bin = bin_of(order, low, shift)
            tl.atomic_add(histogram_ptr + bin.to(tl.int32), 1, mask=counted, sem="relaxed")
        mark_ptr += GROUPS


@triton.jit
def mask_kernel(
    table_ptr,  # (fields, TENSORS)
    fence_ptr,  # (n_neurons,)
    DTYPE: tl.constexpr,
    TENSORS: tl.constexpr,
    VECTOR: tl.constexpr,
):
    tensor, strip = strip_of(table_ptr, TENSORS)
    if field(table_ptr, tensor, LOW, TENSORS) != KEEP_ALL:
        if field(table_ptr, tensor, BY_COLUMNS, TENSORS) == 1:
            _mask(table_ptr, fence_ptr, tensor, strip, True, DTYPE, TENSORS, VECTOR)
        else:
            _mask(table_ptr, fence_ptr, tensor, strip, False, DTYPE, TENSORS, VECTOR)


@triton.jit
def _mask(
    table_ptr,
    fence_ptr,
    tensor,
    strip,
    COLUMNS: tl.constexpr,
    DTYPE: tl.constexpr,
    TENSORS: tl.constexpr,
    VECTOR: tl.constexpr,
):
    shape = shape_of(table_ptr, tensor, COLUMNS, TENSORS, VECTOR)
    index_bits = field(table_ptr, tensor, INDEX_BITS, TENSORS)
    fence = _fences(table_ptr, fence_ptr, shape, tensor, strip, COLUMNS, TENSORS)
    threshold = tl.minimum(field(table_ptr, tensor, LOW, TENSORS), fence)
    weight_ptr = pointer(table_ptr, tensor, WEIGHT, DTYPE, TENSORS, VECTOR)
    for start in range(0, shape[1], ENTRIES[COLUMNS]):
        index, inside = tile(shape, strip, start, COLUMNS)
        weight = tl.load(weight_ptr + index, mask=inside, other=0)
        stays = order_of(magnitude(weight), index, index_bits) >= threshold
        tl.store(weight_ptr + index, tl.where(stays, weight, 0), mask=inside)


@triton.jit
def _fences(table_ptr, fence_ptr, shape, tensor, strip, COLUMNS: tl.constexpr, TENSORS: tl.constexpr):
    """Return the fences (n, 1) of a strip's neurons."""
    neuron = neurons(shape, strip, COLUMNS)
    return tl.load(fence_ptr + field(table_ptr, tensor, FIRST_NEURON, TENSORS) + neuron, mask=neuron < shape[0], other=0)
