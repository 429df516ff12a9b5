"""A linear map on a support on the CPU: torch's CSR products, over blocks of tokens that stay in the cache.

Blocks are transposed, so that both products run along tokens, where they are vectorised. 16-bit values are widened block
by block: MKL multiplies sparse matrices in float32 and float64 only.
"""

from __future__ import annotations

import warnings

import torch
from einops import rearrange
from torch import Tensor

from sparse_circuits.kernels.sparse_linear.support import Support

BLOCK_TOKENS = 256


def sparse_linear_forward(x: Tensor, values: Tensor, bias: Tensor | None, support: Support) -> Tensor:
    """Return x (n_tokens, n_in) times W^T, plus the bias."""
    matrix = _csr(support.row_pointers, support.columns, values, support.shape)
    return _product(matrix, x, bias)


def sparse_linear_backward(x: Tensor, dy: Tensor, values: Tensor, support: Support) -> tuple[Tensor, Tensor]:
    """Return the gradients of x (n_tokens, n_in) and of the values, given that of y (n_tokens, n_out)."""
    n_out, n_in = support.shape
    matrix = _csr(support.column_pointers, support.rows_by_column, values[support.by_column], (n_in, n_out))
    return _product(matrix, dy, None), _sampled_product(x, dy, support).to(values.dtype)


def _product(matrix: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    """Return x times the transpose of a CSR matrix, in the dtype of x."""
    y = x.new_empty(len(x), len(matrix))
    start = matrix.values().new_zeros(()) if bias is None else rearrange(bias.to(matrix.dtype), "n_out -> n_out 1")
    for begin in range(0, len(x), BLOCK_TOKENS):
        block = slice(begin, begin + BLOCK_TOKENS)
        y[block] = torch.addmm(start, matrix, _wide_transpose(x[block])).to(x.dtype).T
    return y


def _sampled_product(x: Tensor, dy: Tensor, support: Support) -> Tensor:
    """Return the sum over tokens of dy[row] x[column] for every entry of the support."""
    wide = torch.promote_types(x.dtype, torch.float32)
    total = _csr(support.row_pointers, support.columns, x.new_zeros(support.n_nonzero, dtype=wide), support.shape)
    for x_block, dy_block in zip(x.split(BLOCK_TOKENS), dy.split(BLOCK_TOKENS), strict=True):
        if len(x_block):
            total = torch.sparse.sampled_addmm(total, _wide_transpose(dy_block), _wide_transpose(x_block).T)
    return total.values()


def _csr(pointers: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    with warnings.catch_warnings():  # torch calls its sparse formats a beta, once a process
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(pointers, columns, values, shape, check_invariants=False)


def _wide_transpose(block: Tensor) -> Tensor:
    # Converting before transposing: torch transposes fast only within one dtype.
    return block.to(torch.promote_types(block.dtype, torch.float32)).T.contiguous()
