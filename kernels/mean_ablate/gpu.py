"""Mean ablation in Triton: one read and one write forward, two reads and one write backward.

Backward gives every program a block of channels and a share of the rows. It writes dx as it goes and keeps the sums of
dout (x - mean) in registers; the shares are added up in the same order every time, so the gradient is the same every time.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparse_circuits.kernels.aot import Case, type_of

ROWS, BLOCK, NUM_WARPS = 16, 256, 4
ROW_SHARES = 128
"""Programs among which the rows of a block of channels are divided backward."""


@triton.jit
def forward_kernel(
    x_ptr,  # (n_rows, width)
    mask_ptr,  # (width,)
    mean_ptr,  # (width,)
    out_ptr,  # (n_rows, width)
    n_rows,
    width,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None].to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    offset, inside = row * width + column, (row < n_rows) & (column < width)
    kept = tl.load(mask_ptr + column, mask=column < width, other=0) > 0
    mean = tl.load(mean_ptr + column, mask=column < width, other=0)
    x = tl.load(x_ptr + offset, mask=inside, other=0)
    tl.store(out_ptr + offset, tl.where(kept, x, mean), mask=inside)


@triton.jit
def backward_kernel(
    dout_ptr,  # (n_rows, width)
    x_ptr,  # (n_rows, width)
    mask_ptr,  # (width,)
    mean_ptr,  # (width,)
    dx_ptr,  # (n_rows, width)
    effect_ptr,  # (n_shares, width)
    n_rows,
    width,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    kept = tl.load(mask_ptr + column, mask=column < width, other=0) > 0
    effect = tl.zeros((1, BLOCK), effect_ptr.dtype.element_ty)
    mean = tl.load(mean_ptr + column, mask=column < width, other=0).to(effect.dtype)
    for first_row in range(tl.program_id(0) * ROWS, n_rows, tl.num_programs(0) * ROWS):
        row = (first_row + tl.arange(0, ROWS))[:, None].to(tl.int64)
        offset, inside = row * width + column, (row < n_rows) & (column < width)
        dout = tl.load(dout_ptr + offset, mask=inside, other=0)
        x = tl.load(x_ptr + offset, mask=inside, other=0).to(effect.dtype)
        tl.store(dx_ptr + offset, tl.where(kept, dout, 0), mask=inside)
        effect += tl.sum(dout.to(effect.dtype) * (x - mean), axis=0)[None, :]
    tl.store(effect_ptr + tl.program_id(0) * width + column, effect, mask=column < width)


def mean_ablate_forward(x: Tensor, mask: Tensor, mean: Tensor) -> Tensor:
    """Return contiguous x (n_rows, width) with the channels whose mask is not above 0 at their mean."""
    (n_rows, width), out = x.shape, torch.empty_like(x)
    if x.numel():
        grid = (triton.cdiv(n_rows, ROWS), triton.cdiv(width, BLOCK))
        forward_kernel[grid](x, mask, mean, out, n_rows, width, ROWS=ROWS, BLOCK=BLOCK, num_warps=NUM_WARPS)
    return out


def mean_ablate_backward(dout: Tensor, x: Tensor, mask: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of x (n_rows, width) and, of each channel, the sum over rows of dout (x - mean)."""
    (n_rows, width), dx = x.shape, torch.empty_like(x)
    n_shares = min(ROW_SHARES, triton.cdiv(n_rows, ROWS))
    effect = x.new_empty(n_shares, width, dtype=torch.promote_types(x.dtype, torch.float32))
    if x.numel():
        grid = (n_shares, triton.cdiv(width, BLOCK))
        backward_kernel[grid](dout, x, mask, mean, dx, effect, n_rows, width, ROWS=ROWS, BLOCK=BLOCK, num_warps=NUM_WARPS)
    return dx, effect.sum(0)


def aot_cases() -> Iterator[Case]:
    """Yield both kernels for every dtype, with widths that are multiples of 16 and with others."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for width in ("i32:16", "i32"):
            for kernel in (forward_kernel, backward_kernel):
                arguments = {name: type_of(dtype, pointer=True) for name in kernel.arg_names if name.endswith("_ptr")}
                arguments |= {"mask_ptr": "*fp32:16", "effect_ptr": "*fp32:16", "n_rows": "i32", "width": width}
                arguments |= {"ROWS": ROWS, "BLOCK": BLOCK}
                name = f"mean_ablate {kernel.__name__.removesuffix('_kernel')} {type_of(dtype)} width {width}"
                yield Case(name, kernel, arguments, NUM_WARPS, wide_loads=width == "i32:16")
