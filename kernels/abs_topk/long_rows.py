"""AbsTopK of rows that do not fit the registers of a program: one program a row, which stays in the cache.

Every pass of the two bisections, over magnitudes and over the columns of ties, reads the row again, block by block. A row of
32,768 bf16 values is 64 KB, so all reads but the first are the first-level cache's.
"""

from __future__ import annotations

import triton
import triton.language as tl

from sparse_circuits.kernels.abs_topk.magnitude import magnitude

BLOCK = 2048
NUM_WARPS = 4


@triton.jit
def _n_between(row_ptr, low, high, n_columns, BLOCK: tl.constexpr):
    """Count the entries of the first `n_columns` columns whose magnitude lies in [low, high)."""
    n = tl.full((), 0, tl.int32)
    for start in range(0, n_columns, BLOCK):
        column = start + tl.arange(0, BLOCK)
        key = magnitude(tl.load(row_ptr + column, mask=column < n_columns, other=0))
        n += tl.sum(((key >= low) & (key < high) & (column < n_columns)).to(tl.int32), axis=0)
    return n


@triton.jit
def _columns_holding(row_ptr, low, high, room, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Return the smallest number of columns that hold `room` entries whose magnitude lies in [low, high)."""
    fewer, enough = -1, WIDTH
    while enough - fewer > 1:
        middle = (fewer + enough) // 2
        if _n_between(row_ptr, low, high, middle, BLOCK) >= room:
            enough = middle
        else:
            fewer = middle
    return enough


@triton.jit
def forward_kernel(
    x_ptr,  # (n_rows, WIDTH)
    out_ptr,  # (n_rows, WIDTH)
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * WIDTH
    above = magnitude(tl.full((), float("nan"), x_ptr.dtype.element_ty)) + 1
    low, high, n_low, n_high = above * 0, above, WIDTH, 0
    while (n_low > K) & (high - low > 1):
        middle = low + (high - low) // 2
        n = _n_between(x_ptr + row, middle, above, WIDTH, BLOCK)
        if n >= K:
            low, n_low = middle, n
        else:
            high, n_high = middle, n
    cut = WIDTH
    if n_low > K:
        cut = _columns_holding(x_ptr + row, low, high, K - n_high, WIDTH, BLOCK)
    for start in range(0, WIDTH, BLOCK):
        column = start + tl.arange(0, BLOCK)
        x = tl.load(x_ptr + row + column, mask=column < WIDTH, other=0)
        key = magnitude(x)
        tl.store(out_ptr + row + column, tl.where((key >= high) | ((key >= low) & (column < cut)), x, 0), mask=column < WIDTH)


@triton.jit
def backward_kernel(
    out_ptr,  # (n_rows, WIDTH)
    dout_ptr,  # (n_rows, WIDTH)
    dx_ptr,  # (n_rows, WIDTH)
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The survivors are the nonzeros and, where those are fewer than K, the zeros of lowest column."""
    row = tl.program_id(0).to(tl.int64) * WIDTH
    room = K - WIDTH + _n_between(out_ptr + row, 0, 1, WIDTH, BLOCK)
    cut = _columns_holding(out_ptr + row, 0, 1, room, WIDTH, BLOCK)
    for start in range(0, WIDTH, BLOCK):
        column = start + tl.arange(0, BLOCK)
        out = tl.load(out_ptr + row + column, mask=column < WIDTH, other=0)
        dout = tl.load(dout_ptr + row + column, mask=column < WIDTH, other=0)
        tl.store(dx_ptr + row + column, tl.where((out != 0) | (column < cut), dout, 0), mask=column < WIDTH)
