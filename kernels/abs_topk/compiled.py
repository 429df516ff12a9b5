"""AbsTopK as tensor expressions that torch.compile turns into one loop: a bisection on the bits, a running count for ties."""

import torch
from torch import Tensor

from sparse_circuits.kernels.backend import compiled

_INTEGERS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


def abs_topk_forward(x: Tensor, k: int) -> Tensor:
    """Return AbsTopK of contiguous rows (n_rows, width)."""
    return compiled(threshold_where)(x, x, k)


def abs_topk_backward(out: Tensor, dout: Tensor, k: int) -> Tensor:
    """Return the gradient of x, given AbsTopK's output and its gradient, all (n_rows, width)."""
    return compiled(threshold_where)(out, dout, k)


def threshold_where(x: Tensor, value: Tensor, k: int) -> Tensor:
    """Return `value` where x (n_rows, width) is among the k largest of its row, ties to the lower index, and 0 elsewhere."""
    integers = _INTEGERS[x.dtype]
    largest = torch.iinfo(integers).max
    key = x.view(integers) & largest
    low = torch.zeros_like(key[:, :1])
    # Bit by bit from the top: the largest value that at least k keys reach.
    for bit in reversed(range(torch.iinfo(integers).bits - 1)):
        higher = low | (1 << bit)
        low = torch.where((key >= higher).sum(-1, keepdim=True) >= k, higher, low)
    above, tied = key > low, key == low
    room = k - above.sum(-1, keepdim=True)
    return torch.where(above | (tied & (tied.cumsum(-1) <= room)), value, 0)
