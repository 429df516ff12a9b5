"""AbsTopK in plain PyTorch: a stable sort, so that of equal magnitudes the lower index survives."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def abs_topk_mask(x: Float[Tensor, "*rows width"], k: int) -> Bool[Tensor, "*rows width"]:
    """Mark exactly k entries of largest magnitude in every row, ties going to the lower index."""
    kept = x.detach().abs().sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return torch.zeros_like(x, dtype=torch.bool).scatter_(-1, kept, True)


def abs_topk(x: Float[Tensor, "*rows width"], k: int) -> Float[Tensor, "*rows width"]:
    """Zero all but the k entries of largest magnitude in every row; gradients reach the survivors only."""
    return torch.where(abs_topk_mask(x, k), x, 0)


def abs_topk_forward(x: Float[Tensor, "n_rows width"], k: int) -> Float[Tensor, "n_rows width"]:
    """Return AbsTopK of every row."""
    return abs_topk(x, k)


def abs_topk_backward(
    out: Float[Tensor, "n_rows width"], dout: Float[Tensor, "n_rows width"], k: int
) -> Float[Tensor, "n_rows width"]:
    """Return the gradient of x; chosen again from the output, the survivors are the same."""
    return torch.where(abs_topk_mask(out, k), dout, 0)
