"""Magnitude pruning in Triton: all tensors of a model in a handful of launches, no sort, and nothing waits for the host.

search.py says how the thresholds are found, passes.py holds what reads the weights, table.py lets one launch serve all
tensors, update.py brings in AdamW. Of every float32 weight, pruning reads 4 bytes to count and most often less than 1 to look
closer, and the mask reads 4 and writes 4, where 8 altogether is the floor. Fused, the first count rides on the update.

Tensors of different dtype or alignment are pruned one kind after the other. Not optimal: tensors that are not contiguous are
copied, and copied back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparse_circuits.kernels.aot import Case, type_of
from sparse_circuits.kernels.magnitude_prune.passes import count_kernel, first_kernel, mask_kernel
from sparse_circuits.kernels.magnitude_prune.search import BINS, GROUPS, find_kernel, guess_kernel
from sparse_circuits.kernels.magnitude_prune.table import Table, build_table
from sparse_circuits.kernels.magnitude_prune.update import read, read_updated

DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
KEY_BITS = {torch.float32: 31, torch.bfloat16: 15, torch.float16: 18}
"""Bits that `magnitude` takes."""
MAX_NUMEL = 1 << 32
STRIP_WARPS = 4
TENSOR_WARPS = 16
"""Warps of the kernels that give each strip of a tensor a program, and of those that give one to a whole tensor."""


def prune_many_(weights: Sequence[Tensor], l0s: Sequence[int], floors: Sequence[int], neuron_axes: Sequence[int]) -> None:
    """Prune all tensors."""
    pruned = [i for i, weight in enumerate(weights) if l0s[i] < weight.numel()]
    with _contiguous(weights) as weights:
        for dtype, vector, chosen in _kinds([weights], pruned):
            budgets = ([values[i] for i in chosen] for values in (l0s, floors, neuron_axes))
            table = build_table({"weight": [weights[i] for i in chosen]}, *budgets)
            _launch(table, read, dtype, vector)


def adamw_prune_many_(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    l0s: Sequence[int],
    floors: Sequence[int],
    neuron_axes: Sequence[int],
    weight_decays: Sequence[float],
    numbers: Sequence[Tensor],
    grad_scale: Tensor | None,
) -> None:
    """Take AdamW's step with all tensors and prune them; numbers are lr, beta1, beta2, eps and the step's number."""
    lr, beta1, beta2, eps, step = numbers
    numbers = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
    numbers |= {"step_size": lr / (1 - beta1**step), "root": (1 - beta2**step).sqrt()}
    numbers["scale"] = torch.ones(()) if grad_scale is None else grad_scale
    with _contiguous(weights) as weights, _contiguous(exp_avgs) as exp_avgs, _contiguous(exp_avg_sqs) as exp_avg_sqs:
        gradients = [gradient.contiguous() for gradient in gradients]
        state = {"weight": weights, "gradient": gradients, "exp_avg": exp_avgs, "exp_avg_sq": exp_avg_sqs}
        for dtype, vector, chosen in _kinds(state.values(), range(len(weights))):
            decays, *budgets = ([values[i] for i in chosen] for values in (weight_decays, l0s, floors, neuron_axes))
            parts = {name: [tensors[i] for i in chosen] for name, tensors in state.items()}
            table = build_table(parts, *budgets, numbers={"decay": torch.tensor(decays, dtype=torch.float64), **numbers})
            _launch(table, read_updated, dtype, vector)


@contextmanager
def _contiguous(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Give every tensor's entries in the order of their flat index; what was a copy is copied back."""
    laid_out = [tensor.contiguous() for tensor in tensors]
    yield laid_out
    for tensor, copy in zip(tensors, laid_out, strict=True):
        if copy.data_ptr() != tensor.data_ptr():
            tensor.copy_(copy)


def _kinds(groups: Iterable[Sequence[Tensor]], chosen: Iterable[int]) -> Iterator[tuple[torch.dtype, int, list[int]]]:
    """Yield dtype, alignment in entries, and the numbers of the tensors that share both.

    Raises:
        ValueError: the kernels have no order for the dtype, or an index takes more than 32 bits.
    """
    kinds: dict[tuple[torch.dtype, int], list[int]] = {}
    for i in chosen:
        parts = [tensors[i] for tensors in groups]
        if parts[0].numel() == 0:
            continue
        if parts[0].dtype not in DTYPES or parts[0].numel() > MAX_NUMEL:
            raise ValueError(
                f"backend=triton prunes float32, bfloat16 and float16 tensors of up to {MAX_NUMEL:,} entries, and this has "
                f"{parts[0].numel():,} of {parts[0].dtype}: choose backend=reference."
            )
        vector = 16 // parts[0].element_size()
        aligned = (parts[0].shape or (1,))[-1] % vector == 0 and all(part.data_ptr() % 16 == 0 for part in parts)
        kinds.setdefault((parts[0].dtype, vector if aligned else 1), []).append(i)
    yield from ((*kind, members) for kind, members in kinds.items())


def _launch(table: Table, reader: Any, dtype: torch.dtype, vector: int) -> None:
    """Guess, count, look, count again as often as the worst case takes, and mask."""
    fields, device = table.fields, table.fields.device
    histogram = torch.zeros(table.n_tensors, BINS.value, dtype=torch.int64, device=device)
    fences = torch.empty(table.n_neurons, dtype=torch.int64, device=device)
    marks = torch.zeros(table.n_tiles, GROUPS.value, dtype=torch.uint8, device=device)
    kind = {"DTYPE": DTYPES[dtype], "TENSORS": fields.shape[1]}
    by_tensor = {**kind, "num_warps": TENSOR_WARPS}
    by_strip = {**kind, "VECTOR": vector, "num_warps": STRIP_WARPS}
    tensors, strips = (table.n_tensors,), (table.n_strips,)

    guess_kernel[tensors](fields, READ=reader, VECTOR=vector, **by_tensor)
    keep = triton.next_power_of_2(max(1, table.floor))
    first_kernel[strips](fields, histogram, fences, marks, READ=reader, KEEP=keep, **by_strip)
    find_kernel[tensors](fields, histogram, FIRST=True, **by_tensor)
    # A guess that missed leaves every place to search, and each count resolves as many bits of it as a bin's number has.
    for _ in range(triton.cdiv(KEY_BITS[dtype] + table.index_bits, BINS.value.bit_length() - 1)):
        count_kernel[strips](fields, histogram, fences, marks, **by_strip)
        find_kernel[tensors](fields, histogram, FIRST=False, **by_tensor)
    mask_kernel[strips](fields, fences, **by_strip)


def aot_cases() -> Iterator[Case]:
    """Yield every kernel for each dtype, aligned and not, with a floor of none and of four."""
    for dtype in DTYPES:
        for first in (True, False):
            yield _case(find_kernel, dtype, f"first {first}", TENSOR_WARPS, FIRST=first)
        for vector in (16 // dtype.itemsize, 1):
            for reader in (read, read_updated):
                label = f"{reader.__name__} vector {vector}"
                yield _case(guess_kernel, dtype, label, TENSOR_WARPS, READ=reader, VECTOR=vector)
                wide = vector > 1 and reader is read_updated
                for keep in (1, 4):
                    constants = {"READ": reader, "KEEP": keep, "VECTOR": vector}
                    yield _case(first_kernel, dtype, f"{label} floor {keep}", STRIP_WARPS, wide_loads=wide, **constants)
            yield _case(count_kernel, dtype, f"vector {vector}", STRIP_WARPS, VECTOR=vector)
            yield _case(mask_kernel, dtype, f"vector {vector}", STRIP_WARPS, wide_loads=vector > 1, VECTOR=vector)


def _case(kernel: Any, dtype: torch.dtype, label: str, num_warps: int, *, wide_loads: bool = False, **constants: Any) -> Case:
    arguments = {"table_ptr": "*i64:16", "histogram_ptr": "*i64:16", "fence_ptr": "*i64:16", "mark_ptr": "*u8:16"}
    arguments |= {"DTYPE": DTYPES[dtype], "TENSORS": 128, **constants}
    name = f"magnitude_prune {kernel.__name__.removesuffix('_kernel')} {type_of(dtype)} {label}"
    return Case(name, kernel, arguments, num_warps, wide_loads=wide_loads)
