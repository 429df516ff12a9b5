"""A linear map on a support in Triton: activations are read transposed, (channel, token), so that every load is a whole run.

A program owns a tile of output channels and tokens. It walks the nonzeros of its channels side by side, the k-th of every
channel in step k, and adds value x row of x^T; the loop ends with the longest channel. The tile is written token by token, so
the output needs no transpose of its own, and no two programs write the same place: the result is deterministic. Tiles of the
same tokens run next to each other and find x^T in the L2 cache.

The gradient of x is the same kernel on the transposed support. The gradient of the values is a program for a few nonzeros and a
stretch of tokens, with float32 sums for each stretch, added up at the end.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparse_circuits.kernels.aot import Case, type_of
from sparse_circuits.kernels.sparse_linear.support import Support

TURN = {"BLOCK": 64, "num_warps": 8}
PRODUCT = {"ROWS": 64, "TOKENS": 64, "num_warps": 4}
SAMPLED = {"ENTRIES": 16, "TOKENS": 128, "num_warps": 4}
STRETCH = 4096
"""Tokens of one partial sum: their x^T stays in the L2 cache while all nonzeros pass."""
MAX_PARTIAL = 1 << 24
"""Partial sums held at once; with more nonzeros than this the stretches are longer."""


@triton.jit
def transpose_kernel(
    x_ptr,  # (n_tokens, n_channels)
    out_ptr,  # (n_channels, stride): zero from n_tokens on
    n_tokens,
    n_channels,
    stride,
    BLOCK: tl.constexpr,
):
    n_blocks = tl.cdiv(n_channels, BLOCK)
    token = (tl.program_id(0) // n_blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    channel = (tl.program_id(0) % n_blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = (token < n_tokens)[:, None] & (channel < n_channels)[None, :]
    tile = tl.load(x_ptr + token[:, None] * n_channels + channel[None, :], mask=inside, other=0)
    inside = (channel < n_channels)[:, None] & (token < stride)[None, :]
    tl.store(out_ptr + channel[:, None] * stride + token[None, :], tl.trans(tile), mask=inside)


@triton.jit
def product_kernel(
    xt_ptr,  # (n_in, stride)
    values_ptr,  # (n_nonzero,)
    pointers_ptr,  # (n_out + 1,)
    columns_ptr,  # (n_nonzero,)
    bias_ptr,  # (n_out,), never read without HAS_BIAS
    y_ptr,  # (n_tokens, n_out)
    n_out,
    n_tokens,
    stride,
    HAS_BIAS: tl.constexpr,
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
):
    n_blocks = tl.cdiv(n_out, ROWS)
    row = (tl.program_id(0) % n_blocks) * ROWS + tl.arange(0, ROWS)
    token = (tl.program_id(0) // n_blocks).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    first = tl.load(pointers_ptr + row, mask=row < n_out, other=0)
    end = tl.load(pointers_ptr + row + 1, mask=row < n_out, other=0)
    wide: tl.constexpr = tl.float64 if y_ptr.dtype.element_ty == tl.float64 else tl.float32
    total = tl.zeros((ROWS, TOKENS), wide)
    for step in range(tl.max(end - first, axis=0)):
        entry = first + step
        column = tl.load(columns_ptr + entry, mask=entry < end, other=0).to(tl.int64)
        value = tl.load(values_ptr + entry, mask=entry < end, other=0).to(wide)
        inside = (entry < end)[:, None] & (token < stride)[None, :]
        total += value[:, None] * tl.load(xt_ptr + column[:, None] * stride + token[None, :], mask=inside, other=0).to(wide)
    if HAS_BIAS:
        total += tl.load(bias_ptr + row, mask=row < n_out, other=0).to(wide)[:, None]
    inside = (row < n_out)[:, None] & (token < n_tokens)[None, :]
    tl.store(y_ptr + token[None, :] * n_out + row[:, None], total, mask=inside)


@triton.jit
def sampled_kernel(
    xt_ptr,  # (n_in, stride), zero from n_tokens on
    dyt_ptr,  # (n_out, stride), zero from n_tokens on
    rows_ptr,  # (n_nonzero,)
    columns_ptr,  # (n_nonzero,)
    partial_ptr,  # (n_stretches, n_nonzero)
    n_nonzero,
    stride,
    stretch,
    ENTRIES: tl.constexpr,
    TOKENS: tl.constexpr,
):
    n_blocks = tl.cdiv(n_nonzero, ENTRIES)
    entry = (tl.program_id(0) % n_blocks) * ENTRIES + tl.arange(0, ENTRIES)
    number = (tl.program_id(0) // n_blocks).to(tl.int64)
    row = tl.load(rows_ptr + entry, mask=entry < n_nonzero, other=0).to(tl.int64)[:, None]
    column = tl.load(columns_ptr + entry, mask=entry < n_nonzero, other=0).to(tl.int64)[:, None]
    total = tl.zeros((ENTRIES, TOKENS), partial_ptr.dtype.element_ty)
    for start in range(0, stretch, TOKENS):
        token = (number * stretch + start + tl.arange(0, TOKENS))[None, :]
        inside = (entry < n_nonzero)[:, None] & (token < stride)
        x = tl.load(xt_ptr + column * stride + token, mask=inside, other=0).to(total.dtype)
        total += x * tl.load(dyt_ptr + row * stride + token, mask=inside, other=0).to(total.dtype)
    tl.store(partial_ptr + number * n_nonzero + entry, tl.sum(total, axis=1), mask=entry < n_nonzero)


def sparse_linear_forward(x: Tensor, values: Tensor, bias: Tensor | None, support: Support) -> Tensor:
    """Return x (n_tokens, n_in) times W^T, plus the bias."""
    return _product(_transpose(x), len(x), values, bias, support.row_pointers, support.columns, support.shape[0])


def sparse_linear_backward(x: Tensor, dy: Tensor, values: Tensor, support: Support) -> tuple[Tensor, Tensor]:
    """Return the gradients of x (n_tokens, n_in) and of the values, given that of y (n_tokens, n_out)."""
    dyt = _transpose(dy)
    values_by_column = values[support.by_column]
    dx = _product(dyt, len(x), values_by_column, None, support.column_pointers, support.rows_by_column, support.shape[1])
    return dx, _sampled_product(_transpose(x), dyt, support).to(values.dtype)


def _transpose(x: Tensor) -> Tensor:
    """Return x^T (n_channels, stride), zeros behind the last token up to a multiple of 16: rows begin at 16-byte addresses."""
    n_tokens, n_channels = x.shape
    out = x.new_empty(n_channels, 16 * triton.cdiv(n_tokens, 16))
    if out.numel():
        n_programs = triton.cdiv(n_channels, TURN["BLOCK"]) * triton.cdiv(out.shape[1], TURN["BLOCK"])
        transpose_kernel[(n_programs,)](x, out, n_tokens, n_channels, out.shape[1], **TURN)
    return out


def _product(
    xt: Tensor, n_tokens: int, values: Tensor, bias: Tensor | None, pointers: Tensor, columns: Tensor, n_out: int
) -> Tensor:
    y = xt.new_empty(n_tokens, n_out)
    if y.numel():
        n_programs = triton.cdiv(n_out, PRODUCT["ROWS"]) * triton.cdiv(n_tokens, PRODUCT["TOKENS"])
        operands = (xt, values, pointers, columns, values if bias is None else bias)
        product_kernel[(n_programs,)](*operands, y, n_out, n_tokens, xt.shape[1], HAS_BIAS=bias is not None, **PRODUCT)
    return y


def _sampled_product(xt: Tensor, dyt: Tensor, support: Support) -> Tensor:
    """Return the sum over tokens of dy[row] x[column] for every entry of the support."""
    n_nonzero, stride = support.n_nonzero, xt.shape[1]
    n_stretches = max(1, min(triton.cdiv(stride, STRETCH), MAX_PARTIAL // max(1, n_nonzero)))
    stretch = SAMPLED["TOKENS"] * triton.cdiv(stride, SAMPLED["TOKENS"] * n_stretches)
    partial = xt.new_empty(n_stretches, n_nonzero, dtype=torch.promote_types(xt.dtype, torch.float32))
    if n_nonzero:
        grid = (triton.cdiv(n_nonzero, SAMPLED["ENTRIES"]) * n_stretches,)
        sampled_kernel[grid](xt, dyt, support.rows, support.columns, partial, n_nonzero, stride, stretch, **SAMPLED)
    return partial.sum(0)


def aot_cases() -> Iterator[Case]:
    """Yield every kernel in every dtype, at widths that are a multiple of 16 and at others."""
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for aligned in (True, False):
            yield _case(transpose_kernel, dtype, TURN, aligned=aligned)
            for has_bias in (True, False):
                yield _case(product_kernel, dtype, PRODUCT | {"HAS_BIAS": has_bias}, aligned=aligned)
        yield _case(sampled_kernel, dtype, SAMPLED, aligned=True)


def _case(kernel, dtype: torch.dtype, config: dict[str, int], *, aligned: bool) -> Case:
    config = dict(config)
    num_warps = config.pop("num_warps")
    width = "i32:16" if aligned else "i32"
    arguments = {name: type_of(dtype, pointer=True) for name in kernel.arg_names if name.endswith("_ptr")}
    arguments |= dict.fromkeys(("pointers_ptr", "rows_ptr", "columns_ptr"), "*i32:16") | {"partial_ptr": "*fp32:16"}
    arguments |= {"n_out": width, "n_channels": width, "n_tokens": "i32", "n_nonzero": "i32", "stride": "i32:16"}
    arguments |= {"stretch": "i32:16"} | config
    kind = kernel.__name__.removesuffix("_kernel")
    name = f"sparse_linear {kind} {type_of(dtype)} {'wide' if aligned else 'odd'}{' bias' if config.get('HAS_BIAS') else ''}"
    # The sampled product reads runs of 16 bytes, and writes a few single sums.
    return Case(name, kernel, arguments, num_warps, wide_loads=aligned and kernel is not sampled_kernel)
