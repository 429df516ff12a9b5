"""AbsTopK (Gao et al. 2025, appendix A.1): the activation sparsity at every node site.

On the CPU a row's k-th magnitude is found by NumPy's vectorised partition, some ten times faster than torch.topk, with the
rows shared among threads. Magnitudes are compared as integers: the bits of |x| sort like |x| itself. For 16-bit floats the
column is packed below the bits, which makes every key unique, so that exactly k survive whatever the ties.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.kernels.abs_topk import reference
from sparse_circuits.kernels.launch import row_blocks, thread_map


def abs_topk(x: Float[Tensor, "*rows width"], k: int) -> Float[Tensor, "*rows width"]:
    """Zero all but the k entries of largest magnitude in every row; gradients reach the survivors only.

    Args:
        x: activations; exactly k entries of each row survive, of equal magnitudes those of lower index.
        k: entries to keep, from 1 to width (width keeps all and costs nothing).

    Raises:
        ValueError: k is out of range.
    """
    width = x.shape[-1]
    if not 1 <= k <= width:
        raise ValueError(f"abs_topk keeps between 1 and width = {width} entries, got k = {k}: choose another fraction.")
    if k == width:
        return x
    return _AbsTopK.apply(x, k)


class _AbsTopK(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, k: int) -> Tensor:
        kept = _mask_on_cpu(x, k) if x.device.type == "cpu" else reference.abs_topk_mask(x, k)
        ctx.save_for_backward(kept)
        return x * kept

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return gradient * kept, None


def _mask_on_cpu(x: Tensor, k: int) -> Bool[Tensor, "*rows width"]:
    rows = x.detach().reshape(-1, x.shape[-1]).contiguous()
    n_rows, width = rows.shape
    mask = np.empty((n_rows, width), dtype=bool)
    if rows.element_size() == 2 and width <= 1 << 16:
        bits, mark = rows.view(torch.int16).numpy(), _mark_packed
    else:
        integer = torch.int32 if rows.element_size() == 4 else torch.int64
        bits, mark = rows.view(integer).numpy(), _mark_with_ties
    thread_map(lambda block: mark(bits[block], k, mask[block]), row_blocks(n_rows, width * rows.element_size()))
    return torch.from_numpy(mask).view(x.shape)


def _mark_packed(bits: np.ndarray, k: int, mask: np.ndarray) -> None:
    """Mark the k largest of each row of 16-bit floats: keys (magnitude, reversed column) are unique."""
    width = bits.shape[-1]
    keys = (bits & 0x7FFF).astype(np.int32)
    keys <<= 16
    keys |= np.arange(0xFFFF, 0xFFFF - width, -1, dtype=np.int32)
    np.greater_equal(keys, _kth_largest(keys, k), out=mask)


def _mark_with_ties(bits: np.ndarray, k: int, mask: np.ndarray) -> None:
    """Mark the k largest of each row of wide floats, settling the few rows whose threshold value repeats."""
    keys = bits & np.iinfo(bits.dtype).max
    threshold = _kth_largest(keys, k)
    np.greater_equal(keys, threshold, out=mask)
    tied = np.flatnonzero(mask.sum(axis=-1) > k)
    if tied.size:
        keys, threshold = keys[tied], threshold[tied]
        above, equal = keys > threshold, keys == threshold
        room = k - above.sum(axis=-1, keepdims=True)
        mask[tied] = above | (equal & (np.cumsum(equal, axis=-1) <= room))


def _kth_largest(keys: np.ndarray, k: int) -> np.ndarray:
    split = keys.shape[-1] - k
    return np.partition(keys, split, axis=-1)[:, split, None]
