"""A linear map on a support in plain PyTorch: the matrix is made dense, and so is its gradient."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.kernels.sparse_linear.support import Support


def sparse_linear(
    x: Float[Tensor, "*rows n_in"],
    values: Float[Tensor, " n_nonzero"],
    support: Support,
    bias: Float[Tensor, " n_out"] | None = None,
) -> Float[Tensor, "*rows n_out"]:
    """Return x W^T + bias, W being `values` on the support and zero elsewhere."""
    return F.linear(x, support.dense(values), bias)


def sparse_linear_forward(x: Tensor, values: Tensor, bias: Tensor | None, support: Support) -> Tensor:
    """Return x (n_tokens, n_in) times W^T, plus the bias."""
    return sparse_linear(x, values, support, bias)


def sparse_linear_backward(x: Tensor, dy: Tensor, values: Tensor, support: Support) -> tuple[Tensor, Tensor]:
    """Return the gradients of x (n_tokens, n_in) and of the values, given that of y (n_tokens, n_out)."""
    wide = torch.promote_types(x.dtype, torch.float32)
    dense = dy.to(wide).T @ x.to(wide)
    return dy @ support.dense(values), support.values(dense).to(values.dtype)
