"""The table that lets one launch work on all tensors of a model: where each tensor lies, and how far its search has come.

A column is a tensor, a row one of the fields below; floats are stored as the bits of a float64. Programs are numbered through
all tensors. A program's share is a *strip* of neighbouring neurons in their whole width, which it walks in *tiles*. A
tensor without a floor has no neurons that matter and is cut into rows of FLAT entries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

FLAT = 2048
# A tile's neurons, and its entries of each: where neurons are rows, and where they are columns.
NEURONS = tl.constexpr((8, 32))
ENTRIES = tl.constexpr((128, 32))

# fmt: off
FIELDS = (
    "weight", "gradient", "exp_avg", "exp_avg_sq", "lr", "decay", "beta1", "beta2", "eps", "step_size", "root", "scale",
    "numel", "n_neurons", "width", "by_columns", "index_bits", "l0", "floor", "first_strip", "first_neuron", "first_tile",
    "low", "high", "shift", "n_above", "n_protected", "group",
)
"""What an update reads; what a tensor is and where its strips, neurons and tiles begin; how far its search has come."""
(
    WEIGHT, GRADIENT, EXP_AVG, EXP_AVG_SQ, LR, DECAY, BETA1, BETA2, EPS, STEP_SIZE, ROOT, SCALE,
    NUMEL, N_NEURONS, WIDTH, BY_COLUMNS, INDEX_BITS, L0, FLOOR, FIRST_STRIP, FIRST_NEURON, FIRST_TILE,
    LOW, HIGH, SHIFT, N_ABOVE, N_PROTECTED, GROUP,
) = (tl.constexpr(row) for row in range(len(FIELDS)))
# fmt: on


@dataclass(frozen=True)
class Table:
    """What one set of launches works on."""

    fields: Tensor
    """The table on the device, int64 of shape (len(FIELDS), TENSORS), TENSORS being a power of two."""
    n_tensors: int
    n_strips: int
    n_neurons: int
    n_tiles: int
    """Strips, neurons and tiles of all tensors together."""
    index_bits: int
    """Most bits that a flat index takes."""
    floor: int
    """The largest floor."""


def build_table(
    parts: Mapping[str, Sequence[Tensor]],
    l0s: Sequence[int],
    floors: Sequence[int],
    neuron_axes: Sequence[int],
    *,
    numbers: Mapping[str, Tensor] | None = None,
) -> Table:
    """Return the table of some tensors, all contiguous and on one device.

    Args:
        parts: what belongs to each tensor, by field: weights, and for an update gradients and moments.
        l0s: how many entries each keeps.
        floors: how many nonzero entries every neuron of each keeps at least.
        neuron_axes: where the neurons of each are.
        numbers: what fills the fields that are floats, one for all tensors or one for each.
    """
    weights, device = parts["weight"], parts["weight"][0].device
    rows = {name: [tensor.data_ptr() for tensor in tensors] for name, tensors in parts.items()}
    views = [_neurons(*each) for each in zip(weights, l0s, floors, neuron_axes, strict=True)]
    n_neurons, width, by_columns, floor = (np.array(column) for column in zip(*views, strict=True))
    n_strips = -(-n_neurons // np.take(NEURONS.value, by_columns))
    n_tiles = n_strips * -(-width // np.take(ENTRIES.value, by_columns))
    rows |= {"n_neurons": n_neurons, "width": width, "by_columns": by_columns, "floor": floor, "l0": np.array(l0s)}
    rows["numel"] = [weight.numel() for weight in weights]
    rows["index_bits"] = [(weight.numel() - 1).bit_length() for weight in weights]
    for name, counts in (("first_strip", n_strips), ("first_neuron", n_neurons), ("first_tile", n_tiles)):
        rows[name] = np.cumsum(counts) - counts

    fields = np.zeros((len(FIELDS), triton.next_power_of_2(len(weights))), np.int64)
    fields[FIELDS.index("group")] = -1
    # The columns that only fill up to a power of two begin behind the last strip.
    fields[FIELDS.index("first_strip")] = 1 << 62
    numbers = numbers or {}
    for name, value in numbers.items():
        if value.device.type == "cpu":
            rows[name] = value.double().numpy().view(np.int64)
    for name, row in rows.items():
        fields[FIELDS.index(name), : len(weights)] = row
    fields = _to_device(torch.from_numpy(fields), device)
    for name, value in numbers.items():
        if value.device.type != "cpu":
            fields[FIELDS.index(name)].view(torch.float64).copy_(value)
    return Table(
        fields=fields,
        n_tensors=len(weights),
        n_strips=int(n_strips.sum()),
        n_neurons=int(n_neurons.sum()),
        n_tiles=int(n_tiles.sum()),
        index_bits=max(rows["index_bits"]),
        floor=int(floor.max()),
    )


def _neurons(weight: Tensor, l0: int, floor: int, neuron_axis: int) -> tuple[int, int, int, int]:
    """Return how many neurons there are, how wide each is, 1 if they are columns, and their floor."""
    if not floor or l0 >= weight.numel():
        return -(-weight.numel() // FLAT), FLAT, 0, 0
    return weight.shape[neuron_axis], weight.shape[1 - neuron_axis], neuron_axis, floor


def _to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy without waiting for the device."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


@triton.jit
def field(table_ptr, tensor, FIELD: tl.constexpr, TENSORS: tl.constexpr):
    """Return what the table says of a tensor."""
    return tl.load(table_ptr + FIELD * TENSORS + tensor)


@triton.jit
def set_field(table_ptr, tensor, value, FIELD: tl.constexpr, TENSORS: tl.constexpr):
    """Write it."""
    tl.store(table_ptr + FIELD * TENSORS + tensor, value)


@triton.jit
def number(table_ptr, tensor, FIELD: tl.constexpr, TENSORS: tl.constexpr):
    """Return a field that holds a float."""
    return field(table_ptr, tensor, FIELD, TENSORS).to(tl.float64, bitcast=True)


@triton.jit
def pointer(table_ptr, tensor, FIELD: tl.constexpr, DTYPE: tl.constexpr, TENSORS: tl.constexpr, VECTOR: tl.constexpr):
    """Return a tensor's pointer, which is aligned to VECTOR entries."""
    start = field(table_ptr, tensor, FIELD, TENSORS).to(tl.pointer_type(DTYPE), bitcast=True)
    return tl.multiple_of(start, VECTOR * DTYPE.primitive_bitwidth // 8)


@triton.jit
def strip_of(table_ptr, TENSORS: tl.constexpr):
    """Return the tensor that this program works on, and which of its strips."""
    program = tl.program_id(0)
    first = tl.load(table_ptr + FIRST_STRIP * TENSORS + tl.arange(0, TENSORS))
    tensor = tl.sum((first <= program).to(tl.int32), axis=0) - 1
    return tensor, program - field(table_ptr, tensor, FIRST_STRIP, TENSORS)


@triton.jit
def shape_of(table_ptr, tensor, COLUMNS: tl.constexpr, TENSORS: tl.constexpr, VECTOR: tl.constexpr):
    """Return a tensor's number of neurons, the width of each, and its number of entries."""
    n_neurons, width = tl.load(table_ptr + N_NEURONS * TENSORS + tensor), tl.load(table_ptr + WIDTH * TENSORS + tensor)
    numel = tl.multiple_of(tl.load(table_ptr + NUMEL * TENSORS + tensor), VECTOR)
    if COLUMNS:
        n_neurons = tl.multiple_of(n_neurons, VECTOR)
    else:
        width = tl.multiple_of(width, VECTOR)
    return n_neurons, width, numel


@triton.jit
def neurons(shape, strip, COLUMNS: tl.constexpr):
    """Return the numbers (n, 1) of a strip's neurons."""
    return (strip * NEURONS[COLUMNS] + tl.arange(0, NEURONS[COLUMNS]))[:, None]


@triton.jit
def tile(shape, strip, start, COLUMNS: tl.constexpr):
    """Return the flat indices (n, m) of m entries from `start` on of each of a strip's n neurons, and which exist."""
    n_neurons, width, numel = shape
    neuron, entry = neurons(shape, strip, COLUMNS), (start + tl.arange(0, ENTRIES[COLUMNS]))[None, :]
    index = entry * n_neurons + neuron if COLUMNS else neuron * width + entry
    return index, (neuron < n_neurons) & (entry < width) & (index < numel)


@triton.jit
def first_tile(table_ptr, tensor, strip, COLUMNS: tl.constexpr, TENSORS: tl.constexpr):
    """Return the number of a strip's first tile among those of all tensors."""
    tiles = tl.cdiv(field(table_ptr, tensor, WIDTH, TENSORS), ENTRIES[COLUMNS])
    return field(table_ptr, tensor, FIRST_TILE, TENSORS) + strip * tiles
