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
        if x.device.type == "cpu":
            out, kept = _keep_on_cpu(x, k)
        else:
            kept = reference.abs_topk_mask(x, k)
            out = torch.where(kept, x, 0)
        ctx.save_for_backward(kept)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors
        return (_masked_on_cpu(gradient, kept) if gradient.device.type == "cpu" else torch.where(kept, gradient, 0)), None


INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _bits(x: Tensor) -> np.ndarray:
    """Return the floats of each row as integers of the same width."""
    rows = x.detach().reshape(-1, x.shape[-1]).contiguous()
    return rows.view(INTEGERS[rows.element_size()]).numpy()


def _keep_on_cpu(x: Tensor, k: int) -> tuple[Tensor, Bool[Tensor, "*rows width"]]:
    """Return x with all but the survivors zeroed, and the survivors' mask, in one pass over blocks of rows."""
    bits = _bits(x)
    out, mask = np.empty_like(bits), np.empty(bits.shape, dtype=bool)
    mark = _mark_packed if bits.itemsize == 2 and bits.shape[1] <= 1 << 16 else _mark_with_ties

    def keep(block: slice) -> None:
        mark(bits[block], k, mask[block])
        np.multiply(bits[block], mask[block], out=out[block])

    thread_map(keep, row_blocks(*bits.shape, bits.itemsize))
    return torch.from_numpy(out).view(x.dtype).view(x.shape), torch.from_numpy(mask).view(x.shape)


def _masked_on_cpu(gradient: Tensor, kept: Bool[Tensor, "*rows width"]) -> Tensor:
    bits, mask = _bits(gradient), kept.view(-1, kept.shape[-1]).numpy()
    out = np.empty_like(bits)
    blocks = row_blocks(*bits.shape, bits.itemsize)
    thread_map(lambda block: np.multiply(bits[block], mask[block], out=out[block]), blocks)
    return torch.from_numpy(out).view(gradient.dtype).view(gradient.shape)


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
