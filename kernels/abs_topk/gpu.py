"""AbsTopK in Triton: the row stays in registers, and its k-th magnitude is searched for on the bits.

The bits of |x| sort like |x| itself. Between a bound that at least k entries reach and one that fewer do, the search tries
the place where interpolating the two counts expects k, and stops as soon as exactly k entries reach it: 8 to 12 passes over
registers for a row of normal values, where plain bisection takes 15 (bf16) to 19 (float32). Ties are cut by a second search of
the same kind, over columns. Forward reads x once and writes once. Backward needs no mask, since the survivors can be read
off the output: its nonzeros and, where those are fewer than k, its zeros of lowest index.

NaN counts as larger than infinity. Not optimal: 16-bit keys are compared one to a 32-bit lane.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparse_circuits.kernels.abs_topk import long_rows
from sparse_circuits.kernels.abs_topk.magnitude import magnitude
from sparse_circuits.kernels.aot import Case, type_of

MAX_WIDTH = 8192
"""The longest row that fits the registers beside its choice; longer ones go through `long_rows`, and are not fused."""
ROW_PROGRAMS = 1024
"""Programs of the kernels that add up a gain's gradient, each over its share of the rows."""


@triton.jit
def _key(x, column, WIDTH: tl.constexpr):
    """Return the magnitudes, and -1 in the columns from WIDTH on, which are never kept."""
    return tl.where(column < WIDTH, magnitude(x), -1)


@triton.jit
def _bounds(key, k, low, n_low):
    """Return (low, high, n_high): n(key >= low) >= k > n(key >= high) = n_high, both as close as they need to be.

    They are neighbours, or exactly k entries reach `low`. All arguments but key (ROWS, BLOCK) are of shape (ROWS,); n_low
    entries reach the `low` that comes in.
    """
    high = tl.max(key, axis=1) + 1
    n_high = tl.zeros_like(k)
    searching = (n_low > k) & (high - low > 1)
    while tl.max(searching.to(tl.int32), axis=0) > 0:
        share = (n_low - k).to(tl.float32) / tl.maximum(n_low - n_high, 1)
        step = ((high - low).to(tl.float32) * tl.minimum(tl.maximum(share, 0.2), 0.8)).to(low.dtype)
        middle = low + tl.minimum(tl.maximum(step, 1), high - low - 1)
        n_middle = tl.sum((key >= middle[:, None]).to(tl.int32), axis=1)
        up, down = searching & (n_middle >= k), searching & (n_middle < k)
        low, n_low = tl.where(up, middle, low), tl.where(up, n_middle, n_low)
        high, n_high = tl.where(down, middle, high), tl.where(down, n_middle, n_high)
        searching = (n_low > k) & (high - low > 1)
    return low, high, n_high


@triton.jit
def _first(candidate, column, room, WIDTH: tl.constexpr):
    """Return the column (ROWS,) before which lie the first `room` (ROWS,) candidates (ROWS, BLOCK) of each row."""
    order = tl.where(candidate, WIDTH - column, 0)
    n_candidates = tl.sum(candidate.to(tl.int32), axis=1)
    low, _, _ = _bounds(order, room, tl.full(room.shape, 1, tl.int32), n_candidates)
    return tl.where(room > 0, WIDTH - low + 1, 0)


@triton.jit
def _threshold(x, column, K: tl.constexpr, WIDTH: tl.constexpr):
    """Return (low, high, room) of each row: kept are the keys from `high` on and the first `room` of those from `low` on."""
    key = _key(x, column, WIDTH)
    k = tl.full((x.shape[0],), K, tl.int32)
    low, high, n_high = _bounds(key, k, tl.zeros((x.shape[0],), key.dtype), tl.full((x.shape[0],), WIDTH, tl.int32))
    return low[:, None], high[:, None], k - n_high


@triton.jit
def _kept(x, column, K: tl.constexpr, WIDTH: tl.constexpr):
    """Mark the K largest |x| of every row, ties going to the lower column."""
    key = _key(x, column, WIDTH)
    low, high, room = _threshold(x, column, K, WIDTH)
    cut = _first((key >= low) & (key < high), column, room, WIDTH)
    return (key >= high) | ((key >= low) & (column < cut[:, None]))


@triton.jit
def _survived(out, column, K: tl.constexpr, WIDTH: tl.constexpr):
    """Mark what `_kept` marked, seen from the output: zeros survive only where there were fewer than K other values."""
    n_nonzero = tl.sum(((out != 0) & (column < WIDTH)).to(tl.int32), axis=1)
    cut = _first((out == 0) & (column < WIDTH), column, K - n_nonzero, WIDTH)
    return (out != 0) | (column < cut[:, None])


@triton.jit
def _tile(n_rows, first_row, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Return the columns (1, BLOCK), the offsets and the mask (ROWS, BLOCK) of a block of rows; offsets reach past 2^31."""
    row = (first_row + tl.arange(0, ROWS))[:, None].to(tl.int64)
    column = tl.arange(0, BLOCK)[None, :]
    return column, row * WIDTH + column, (row < n_rows) & (column < WIDTH)


@triton.jit
def forward_kernel(
    x_ptr,  # (n_rows, WIDTH)
    out_ptr,  # (n_rows, WIDTH)
    n_rows,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column, offset, inside = _tile(n_rows, tl.program_id(0) * ROWS, WIDTH, ROWS, BLOCK)
    x = tl.load(x_ptr + offset, mask=inside, other=0)
    tl.store(out_ptr + offset, tl.where(_kept(x, column, K, WIDTH), x, 0), mask=inside)


@triton.jit
def backward_kernel(
    out_ptr,  # (n_rows, WIDTH)
    dout_ptr,  # (n_rows, WIDTH)
    dx_ptr,  # (n_rows, WIDTH)
    n_rows,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column, offset, inside = _tile(n_rows, tl.program_id(0) * ROWS, WIDTH, ROWS, BLOCK)
    survived = _survived(tl.load(out_ptr + offset, mask=inside, other=0), column, K, WIDTH)
    dout = tl.load(dout_ptr + offset, mask=inside, other=0)
    tl.store(dx_ptr + offset, tl.where(survived, dout, 0), mask=inside)


@triton.jit
def _wide(x):
    """Return x in the precision that the fused functions are computed in."""
    return x if x.dtype == tl.float64 else x.to(tl.float32)


@triton.jit
def gelu_forward_kernel(
    x_ptr,  # (n_rows, WIDTH)
    out_ptr,  # (n_rows, WIDTH)
    n_rows,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column, offset, inside = _tile(n_rows, tl.program_id(0) * ROWS, WIDTH, ROWS, BLOCK)
    x = _wide(tl.load(x_ptr + offset, mask=inside, other=0))
    # Rounded before the choice, so that ties are those of the values that the next layer sees.
    value = (0.5 * x * (1 + tl.erf(x * 0.7071067811865476))).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + offset, tl.where(_kept(value, column, K, WIDTH), value, 0), mask=inside)


@triton.jit
def gelu_backward_kernel(
    x_ptr,  # (n_rows, WIDTH)
    out_ptr,  # (n_rows, WIDTH)
    dout_ptr,  # (n_rows, WIDTH)
    dx_ptr,  # (n_rows, WIDTH)
    n_rows,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column, offset, inside = _tile(n_rows, tl.program_id(0) * ROWS, WIDTH, ROWS, BLOCK)
    survived = _survived(tl.load(out_ptr + offset, mask=inside, other=0), column, K, WIDTH)
    x = _wide(tl.load(x_ptr + offset, mask=inside, other=0))
    # d/dx x Phi(x) = Phi(x) + x phi(x)
    slope = 0.5 * (1 + tl.erf(x * 0.7071067811865476)) + x * tl.exp(-0.5 * x * x) * 0.3989422804014327
    dout = _wide(tl.load(dout_ptr + offset, mask=inside, other=0))
    tl.store(dx_ptr + offset, tl.where(survived, dout * slope, 0), mask=inside)


@triton.jit
def rms_norm_forward_kernel(
    x_ptr,  # (n_rows, WIDTH)
    gain_ptr,  # (WIDTH,)
    out_ptr,  # (n_rows, WIDTH)
    n_rows,
    eps,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    column, offset, inside = _tile(n_rows, tl.program_id(0) * ROWS, WIDTH, ROWS, BLOCK)
    x = _wide(tl.load(x_ptr + offset, mask=inside, other=0))
    gain = _wide(tl.load(gain_ptr + column, mask=column < WIDTH, other=0))
    scale = 1 / tl.sqrt(tl.sum(x * x, axis=1) / WIDTH + eps)
    value = (x * scale[:, None] * gain).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + offset, tl.where(_kept(value, column, K, WIDTH), value, 0), mask=inside)


@triton.jit
def rms_norm_backward_kernel(
    x_ptr,  # (n_rows, WIDTH)
    gain_ptr,  # (WIDTH,)
    out_ptr,  # (n_rows, WIDTH)
    dout_ptr,  # (n_rows, WIDTH)
    dx_ptr,  # (n_rows, WIDTH)
    dgain_ptr,  # (n_programs, WIDTH), each program's share
    n_rows,
    eps,
    K: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """With r = 1 / rms(x) and g = gain dout on the survivors: dx = r g - r^3 x mean(g x), dgain = sum over rows of dout x r."""
    columns = tl.arange(0, BLOCK)[None, :]
    gain = _wide(tl.load(gain_ptr + columns, mask=columns < WIDTH, other=0))
    dgain = tl.zeros((1, BLOCK), gain.dtype)
    for first_row in range(tl.program_id(0) * ROWS, n_rows, tl.num_programs(0) * ROWS):
        column, offset, inside = _tile(n_rows, first_row, WIDTH, ROWS, BLOCK)
        survived = _survived(tl.load(out_ptr + offset, mask=inside, other=0), column, K, WIDTH)
        dout = tl.where(survived, _wide(tl.load(dout_ptr + offset, mask=inside, other=0)), 0)
        x = _wide(tl.load(x_ptr + offset, mask=inside, other=0))
        scale = 1 / tl.sqrt(tl.sum(x * x, axis=1) / WIDTH + eps)[:, None]
        dgain += tl.sum(dout * x * scale, axis=0)[None, :]
        dnormal = dout * gain
        share = (tl.sum(dnormal * x, axis=1) / WIDTH)[:, None] * scale * scale
        tl.store(dx_ptr + offset, (dnormal - x * share) * scale, mask=inside)
    tl.store(dgain_ptr + tl.program_id(0).to(tl.int64) * WIDTH + columns, dgain, mask=columns < WIDTH)


def launch_config(width: int, *, entries_per_warp: int = 1024) -> dict[str, int]:
    """Return the tile of a program and its warps: a whole row, or as many short rows as fill four warps."""
    block = triton.next_power_of_2(width)
    rows = max(1, min(16, 1024 // block))
    return {"ROWS": rows, "BLOCK": block, "num_warps": min(32, max(4, rows * block // entries_per_warp))}


BACKWARD_ENTRIES_PER_WARP = 512
"""Half of the forward pass's: RMSNorm's backward holds four rows at once."""


def abs_topk_forward(x: Tensor, k: int) -> Tensor:
    """Return AbsTopK of contiguous rows (n_rows, width)."""
    out = torch.empty_like(x)
    _by_rows(forward_kernel if x.shape[1] <= MAX_WIDTH else long_rows.forward_kernel, x, out, k=k)
    return out


def abs_topk_backward(out: Tensor, dout: Tensor, k: int) -> Tensor:
    """Return the gradient of x, given AbsTopK's output and its gradient, all (n_rows, width)."""
    dx = torch.empty_like(out)
    _by_rows(backward_kernel if out.shape[1] <= MAX_WIDTH else long_rows.backward_kernel, out, dout, dx, k=k)
    return dx


def gelu_abs_topk_forward(x: Tensor, k: int) -> Tensor:
    """Return AbsTopK of GELU of contiguous rows (n_rows, width)."""
    out = torch.empty_like(x)
    _by_rows(gelu_forward_kernel, x, out, k=k)
    return out


def gelu_abs_topk_backward(x: Tensor, out: Tensor, dout: Tensor, k: int) -> Tensor:
    """Return the gradient of x, all (n_rows, width)."""
    dx = torch.empty_like(x)
    _by_rows(gelu_backward_kernel, x, out, dout, dx, k=k)
    return dx


def rms_norm_abs_topk_forward(x: Tensor, gain: Tensor, k: int, eps: float, dtype: torch.dtype) -> Tensor:
    """Return AbsTopK of RMSNorm of contiguous rows (n_rows, width) in the given dtype."""
    out = torch.empty_like(x, dtype=dtype)
    _by_rows(rms_norm_forward_kernel, x, gain, out, k=k, eps=eps)
    return out


def rms_norm_abs_topk_backward(x: Tensor, gain: Tensor, out: Tensor, dout: Tensor, k: int, eps: float) -> tuple[Tensor, Tensor]:
    """Return the gradients of x (n_rows, width) and of the gain (width,)."""
    n_rows, width = x.shape
    config = launch_config(width, entries_per_warp=BACKWARD_ENTRIES_PER_WARP)
    n_programs = min(ROW_PROGRAMS, triton.cdiv(n_rows, config["ROWS"]))
    dx, dgain = torch.empty_like(x), gain.new_empty(n_programs, width, dtype=torch.promote_types(gain.dtype, torch.float32))
    if n_rows:
        rms_norm_backward_kernel[(n_programs,)](x, gain, out, dout, dx, dgain, n_rows, eps, K=k, WIDTH=width, **config)
    return dx, dgain.sum(0).to(gain.dtype)


def _by_rows(kernel, *tensors: Tensor, k: int, **numbers: float) -> None:
    n_rows, width = tensors[0].shape
    if not n_rows:
        return
    if width > MAX_WIDTH:
        kernel[(n_rows,)](*tensors, K=k, WIDTH=width, BLOCK=long_rows.BLOCK, num_warps=long_rows.NUM_WARPS)
    else:
        config = launch_config(width)
        kernel[(triton.cdiv(n_rows, config["ROWS"]),)](*tensors, n_rows, *numbers.values(), K=k, WIDTH=width, **config)


def aot_cases() -> Iterator[Case]:
    """Yield every kernel at every width that is a launch configuration of its own."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for width in (100, *(2**n for n in range(5, 14))):
            for kernel in (forward_kernel, backward_kernel, gelu_forward_kernel, gelu_backward_kernel, rms_norm_forward_kernel):
                yield _case(kernel, dtype, width, launch_config(width))
            config = launch_config(width, entries_per_warp=BACKWARD_ENTRIES_PER_WARP)
            yield _case(rms_norm_backward_kernel, dtype, width, config)
        config = {"ROWS": 1, "BLOCK": long_rows.BLOCK, "num_warps": long_rows.NUM_WARPS}
        for kernel in (long_rows.forward_kernel, long_rows.backward_kernel):
            yield _case(kernel, dtype, 32768, config)


def _case(kernel, dtype: torch.dtype, width: int, config: dict[str, int]) -> Case:
    arguments = {name: type_of(dtype, pointer=True) for name in kernel.arg_names if name.endswith("_ptr")}
    arguments |= {"gain_ptr": "*fp32:16", "dgain_ptr": "*fp32:16", "n_rows": "i32", "eps": "fp32", "K": max(1, width // 4)}
    arguments |= {"WIDTH": width, "ROWS": config["ROWS"], "BLOCK": config["BLOCK"]}
    name = f"abs_topk {kernel.__name__.removesuffix('_kernel')} {type_of(dtype)} {width}"
    return Case(name, kernel, arguments, config["num_warps"], wide_loads=width >= 128)
