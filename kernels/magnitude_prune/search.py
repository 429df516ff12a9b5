"""The search for the l0-th largest entry of every tensor at once: guess, count, look, and count again where it is not found.

All entries of a tensor have places in one *order*, an integer that holds |w| above and the reversed flat index below: no two
are equal, so that ties need no care of their own. An entry stays if its place reaches the tensor's threshold or its neuron's
*fence*, the place of the neuron's `floor`-th largest. The threshold is right when exactly l0 stay.

1. `guess_kernel`: a sample of 4096 entries gives a bracket, low <= place < high, that almost surely holds the threshold.
2. `first_kernel` reads every weight (and updates it, when fused with AdamW). It counts the entries above the bracket, and
   those inside it in a histogram of 4096 equal bins. It gathers the `floor` largest of each neuron, the last of which is the
   fence, and takes them out of the counts, since they stay whatever the threshold is.
3. `find_kernel`: the threshold is the edge of a bin if exactly l0 stay then; else it lies inside one bin, the next bracket.
4. `count_kernel` and `find_kernel`, again and again. The host does not wait to hear how often that is necessary: it launches
   what the worst case takes, and a tensor whose threshold is known is not read. Nor are tiles that met nothing in that bin.
5. `mask_kernel` zeroes what does not stay.

What makes it fast is to count few: only entries inside the bracket pay for an atomic addition. Most often two counts settle a
tensor, and the second reads few tiles. A guess that misses costs one more count; the result is exact all the same.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sparse_circuits.kernels.abs_topk.magnitude import magnitude
from sparse_circuits.kernels.magnitude_prune.table import (
    GROUP,
    HIGH,
    INDEX_BITS,
    L0,
    LOW,
    N_ABOVE,
    N_PROTECTED,
    NUMEL,
    SHIFT,
    field,
    set_field,
)

SAMPLE = tl.constexpr(4096)
BINS = tl.constexpr(4096)
GROUPS = tl.constexpr(64)
"""A tile remembers the bins that it met modulo this."""
FOUND = tl.constexpr(-1)
"""The shift of a tensor whose threshold is known: it stands in `low`."""
KEEP_ALL = tl.constexpr(-1)
"""The threshold of a tensor that is not pruned."""
NOWHERE = tl.constexpr(-(1 << 20))
"""Below every place."""


@triton.jit
def order_of(key, index, index_bits):
    """Return the places of entries of these magnitudes; zeros have none, since they never stay."""
    last = (tl.full((), 1, tl.int64) << index_bits) - 1
    return tl.where(key > 0, (key.to(tl.int64) << index_bits) + (last - index), NOWHERE)


@triton.jit
def bracket(table_ptr, tensor, TENSORS: tl.constexpr):
    """Return low, high and the shift from a place above `low` to its bin."""
    low, high = field(table_ptr, tensor, LOW, TENSORS), field(table_ptr, tensor, HIGH, TENSORS)
    return low, high, field(table_ptr, tensor, SHIFT, TENSORS)


@triton.jit
def bin_of(place, low, shift):
    """Return the bins of places inside the bracket, in the fewest bits: they change threads on their way to an atomic."""
    return ((place - low) >> shift.to(low.dtype)).to(tl.int16)


@triton.jit
def _set_bracket(table_ptr, tensor, low, high, least_shift, TENSORS: tl.constexpr):
    """Search in low <= place < high next, in bins as narrow as their number and the least shift allow."""
    shift = tl.full((), 0, tl.int64) + least_shift
    while ((high - 1 - low) >> shift) >= BINS:
        shift += 1
    set_field(table_ptr, tensor, low, LOW, TENSORS)
    set_field(table_ptr, tensor, high, HIGH, TENSORS)
    set_field(table_ptr, tensor, shift, SHIFT, TENSORS)


@triton.jit
def _set_found(table_ptr, tensor, threshold, TENSORS: tl.constexpr):
    """Search no more."""
    set_field(table_ptr, tensor, threshold, LOW, TENSORS)
    set_field(table_ptr, tensor, FOUND, SHIFT, TENSORS)


@triton.jit
def _top(index_bits, DTYPE: tl.constexpr):
    """Return a place above all, NaN's included."""
    return (magnitude(tl.full((), float("nan"), tl.float32).to(DTYPE)).to(tl.int64) + 1) << index_bits


@triton.jit
def _nth_largest(key, n):
    """Return the n-th largest of int32 keys, built from its highest bit down; 0 if there are fewer."""
    found = tl.full((), 0, tl.int32)
    for step in range(31):
        trial = found | (1 << (30 - step))
        if tl.sum((key >= trial).to(tl.int32), axis=0) >= n:
            found = trial
    return found


@triton.jit
def guess_kernel(
    table_ptr,  # (fields, TENSORS)
    READ: tl.constexpr,
    DTYPE: tl.constexpr,
    TENSORS: tl.constexpr,
    VECTOR: tl.constexpr,
):
    """The bracket reaches 4 standard deviations of the sample's count to either side, and 1/32 of all entries further up.

    That is where the floor moves the threshold to.
    """
    tensor = tl.program_id(0)
    numel, l0 = field(table_ptr, tensor, NUMEL, TENSORS), field(table_ptr, tensor, L0, TENSORS)
    if l0 >= numel:
        _set_found(table_ptr, tensor, KEEP_ALL, TENSORS)
    else:
        # Of every stride another entry: one step for all would line up with the columns of a matrix.
        number, stride = tl.arange(0, SAMPLE), tl.cdiv(numel, SAMPLE)
        index = number * stride + (((number.to(tl.uint32) * 2654435761) >> 11) % stride.to(tl.uint32)).to(tl.int64)
        inside = index < numel
        key = tl.where(inside, magnitude(READ(table_ptr, tensor, index, inside, False, DTYPE, TENSORS, VECTOR)), 0)
        size = tl.sum(inside.to(tl.int32), axis=0)
        expected = size * (l0.to(tl.float32) / numel.to(tl.float32))
        slack = 4 * tl.sqrt(expected + 1)
        low = _nth_largest(key, (expected + slack).to(tl.int32) + 1).to(tl.int64)
        n_higher = (expected - slack - size / 32).to(tl.int32)
        high = 2 * tl.max(key, axis=0).to(tl.int64) - low + 1
        if n_higher > 0:
            high = _nth_largest(key, n_higher).to(tl.int64) + 1
        index_bits = field(table_ptr, tensor, INDEX_BITS, TENSORS)
        high = tl.minimum(high << index_bits, _top(index_bits, DTYPE))
        _set_bracket(table_ptr, tensor, low << index_bits, high, index_bits, TENSORS)


@triton.jit
def find_kernel(
    table_ptr,  # (fields, TENSORS)
    histogram_ptr,  # (n_tensors, BINS), left empty for the next count
    FIRST: tl.constexpr,
    DTYPE: tl.constexpr,
    TENSORS: tl.constexpr,
):
    """The threshold is the edge above `cut` bins: the lowest edge that leaves no more than there is room for."""
    tensor = tl.program_id(0)
    low, high, shift = bracket(table_ptr, tensor, TENSORS)
    if shift >= 0:
        bins = tl.arange(0, BINS)
        count_ptr = histogram_ptr + tensor.to(tl.int64) * BINS + bins
        count = tl.load(count_ptr)
        tl.store(count_ptr, tl.zeros_like(count))
        n_above = field(table_ptr, tensor, N_ABOVE, TENSORS)
        room = field(table_ptr, tensor, L0, TENSORS) - field(table_ptr, tensor, N_PROTECTED, TENSORS) - n_above
        cut = tl.sum((tl.cumsum(count, axis=0, reverse=True) > room).to(tl.int64), axis=0)
        n_kept = tl.sum(tl.where(bins >= cut, count, 0), axis=0)
        edge = low + (cut << shift)
        if (n_kept == room) | ((cut == 0) & (low == 0)):
            _set_found(table_ptr, tensor, edge, TENSORS)
        elif room < 0:  # the guess was too low
            set_field(table_ptr, tensor, 0, N_ABOVE, TENSORS)
            _set_bracket(table_ptr, tensor, high, _top(field(table_ptr, tensor, INDEX_BITS, TENSORS), DTYPE), 0, TENSORS)
        elif cut == 0:  # or too high
            set_field(table_ptr, tensor, n_above + n_kept, N_ABOVE, TENSORS)
            _set_bracket(table_ptr, tensor, 0, low, 0, TENSORS)
        else:
            set_field(table_ptr, tensor, n_above + n_kept, N_ABOVE, TENSORS)
            below = low + ((cut - 1) << shift)
            _set_bracket(table_ptr, tensor, below, tl.minimum(edge, high), 0, TENSORS)
            if FIRST:
                set_field(table_ptr, tensor, (cut - 1) & (GROUPS - 1), GROUP, TENSORS)
