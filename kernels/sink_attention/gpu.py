"""Sink attention in Triton: scores never leave the chip, and what is kept for backward is the output and one number a query.

Forward is the online softmax whose running maximum and sum start from the sink (m = z, l = 1) instead of from nothing: with
value zero, that is all a sink does. No sink is a sink of minus infinity. Backward computes the probabilities again, in one
kernel for the queries' gradients and one for the keys' and values', so that no two programs add to the same number and the
result is the same every time; the sink's gradient is -sum over queries of exp(z - lse) D, with D = rowsum(dO O).

Heads of 16. The tensor cores take a head of 16 as it is: 16 is the depth of one product q k^T and the width of one p v, and
nothing is padded (a head of 8 is, to 16). What limits such heads is the rest of the softmax. For 32 scores a warp issues one
exponential, which on a GPU of NVIDIA's takes as long as eight other instructions, and, in the loop as compiled for cuda 90, six
others, of which less than one is a product. So the exponentials set the pace, and what can be won is
- fewer of them beyond the diagonal: blocks of 64 queries and 64 keys compute 5/8 of the square at n_ctx 256, blocks of 128
  3/4; blocks of 32 compute 9/16, but keep the running maximum and sum twice as often;
- little around them: scale and maximum go into one multiply-add, and only blocks on the diagonal are masked;
- no loads ahead (`num_stages` 1): four blocks of keys are too few to fill a pipeline, and programs of four warps and few
  registers hide each other's loads;
- backward, up to 256 positions, in one program a head (`whole_head`), which computes every probability once, not twice.

Rows are read by their strides. Ours are written as (batch, pos, head, d_head), so that joining the heads costs nothing.
Not optimal: float32 goes through multiply-adds, since its products are exact to float32 (`ieee`), not TF32's.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import gcd

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparse_circuits.kernels.aot import Case, type_of
from sparse_circuits.kernels.sink_attention import whole_head
from sparse_circuits.kernels.sink_attention.layout import empty_rows, in_rows, whole_rows
from sparse_circuits.kernels.sink_attention.tile import (
    LOG2E,
    dot,
    exponentials,
    load_rows,
    place,
    products,
    score_gradients,
    store_rows,
    strided,
)

MAX_D_HEAD = 128


@triton.jit
def _attend(out, peak, total, q, k, v, query, key, D_HEAD: tl.constexpr, MASKED: tl.constexpr):
    """Take one block of keys into the running output, maximum (in base 2) and sum."""
    score = products(q, k, out.dtype)
    if MASKED:
        score = tl.where(key[None, :] <= query[:, None], score, float("-inf"))
    higher = tl.maximum(peak, tl.max(score, axis=1) * (D_HEAD**-0.5 * LOG2E))
    p = exponentials(score, higher, D_HEAD)
    shrink = tl.exp2(peak - higher)
    return dot(p.to(v.dtype), v, out * shrink[:, None]), higher, total * shrink + tl.sum(p, axis=1)


@triton.jit
def forward_kernel(
    q_ptr,  # (batch, n_heads, n_pos, D_HEAD), by its strides, as are k and v
    k_ptr,
    v_ptr,
    sink_ptr,  # (n_heads,)
    out_ptr,  # (batch, n_pos, n_heads, D_HEAD)
    lse_ptr,  # (batch, n_heads, n_pos), in base 2
    q_batch,
    q_head,
    q_pos,
    k_batch,
    k_head,
    k_pos,
    v_batch,
    v_head,
    v_pos,
    n_heads,
    n_pos,
    D_HEAD: tl.constexpr,
    D_TILE: tl.constexpr,
    UNIT: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    WIDE: tl.constexpr = lse_ptr.dtype.element_ty
    n_blocks = tl.cdiv(n_pos, QUERIES)
    batch, head, block = place(n_heads, n_blocks)
    first = (n_blocks - 1 - block) * QUERIES  # the queries with most keys start first
    query = first + tl.arange(0, QUERIES)
    k_rows, v_rows = strided(k_ptr, batch, head, k_batch, k_head, UNIT), strided(v_ptr, batch, head, v_batch, v_head, UNIT)
    q = load_rows(strided(q_ptr, batch, head, q_batch, q_head, UNIT), query, q_pos, n_pos, D_HEAD, D_TILE, UNIT)
    peak = tl.zeros((QUERIES,), WIDE) + tl.load(sink_ptr + head).to(WIDE) * LOG2E
    total = tl.full((QUERIES,), 1, WIDE)
    out = tl.zeros((QUERIES, D_TILE), WIDE)
    diagonal = first // KEYS * KEYS
    for on_diagonal in tl.static_range(2):
        low, high = diagonal if on_diagonal else 0, min(first + QUERIES, n_pos) if on_diagonal else diagonal
        for start in range(low, high, KEYS):
            key = start + tl.arange(0, KEYS)
            k = load_rows(k_rows, key, k_pos, n_pos, D_HEAD, D_TILE, UNIT)
            v = load_rows(v_rows, key, v_pos, n_pos, D_HEAD, D_TILE, UNIT)
            out, peak, total = _attend(out, peak, total, q, k, v, query, key, D_HEAD, on_diagonal)
    out_rows = out_ptr + (batch * n_pos * n_heads + head) * D_HEAD
    store_rows(out_rows, out / total[:, None], query, n_heads, n_pos, D_HEAD, D_TILE)
    tl.store(lse_ptr + (batch * n_heads + head) * n_pos + query, peak + tl.log2(total), mask=query < n_pos)


@triton.jit
def dq_kernel(
    q_ptr,  # (batch, n_heads, n_pos, D_HEAD), by its strides, as are k, v and dout
    k_ptr,
    v_ptr,
    sink_ptr,  # (n_heads,)
    out_ptr,  # (batch, n_pos, n_heads, D_HEAD)
    dout_ptr,
    lse_ptr,  # (batch, n_heads, n_pos), in base 2
    delta_ptr,  # (batch, n_heads, n_pos), written for dk_dv_kernel: D
    dq_ptr,  # (batch, n_pos, n_heads, D_HEAD)
    dsink_ptr,  # (batch, n_blocks, n_heads), each program's share
    q_batch,
    q_head,
    q_pos,
    k_batch,
    k_head,
    k_pos,
    v_batch,
    v_head,
    v_pos,
    dout_batch,
    dout_head,
    dout_pos,
    n_heads,
    n_pos,
    D_HEAD: tl.constexpr,
    D_TILE: tl.constexpr,
    UNIT: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """dQ = scale dS K of one block of queries, over the keys before it."""
    WIDE: tl.constexpr = lse_ptr.dtype.element_ty
    n_blocks = tl.cdiv(n_pos, QUERIES)
    batch, head, block = place(n_heads, n_blocks)
    first = (n_blocks - 1 - block) * QUERIES
    query = first + tl.arange(0, QUERIES)
    rows, numbers = (batch * n_pos * n_heads + head) * D_HEAD, (batch * n_heads + head) * n_pos
    k_rows, v_rows = strided(k_ptr, batch, head, k_batch, k_head, UNIT), strided(v_ptr, batch, head, v_batch, v_head, UNIT)
    q = load_rows(strided(q_ptr, batch, head, q_batch, q_head, UNIT), query, q_pos, n_pos, D_HEAD, D_TILE, UNIT)
    dout_rows = strided(dout_ptr, batch, head, dout_batch, dout_head, UNIT)
    dout = load_rows(dout_rows, query, dout_pos, n_pos, D_HEAD, D_TILE, UNIT)
    out = load_rows(out_ptr + rows, query, n_heads, n_pos, D_HEAD, D_TILE, D_HEAD)
    delta = tl.sum(out.to(WIDE) * dout.to(WIDE), axis=1)
    # An infinite log-sum-exp gives queries beyond the sequence no attention to anything.
    lse = tl.load(lse_ptr + numbers + query, mask=query < n_pos, other=float("inf"))
    tl.store(delta_ptr + numbers + query, delta, mask=query < n_pos)
    sink = tl.load(sink_ptr + head).to(WIDE) * LOG2E
    tl.store(dsink_ptr + tl.program_id(0), -tl.sum(tl.exp2(sink - lse) * delta, axis=0))
    dq = tl.zeros((QUERIES, D_TILE), WIDE)
    diagonal = first // KEYS * KEYS
    for on_diagonal in tl.static_range(2):
        low, high = diagonal if on_diagonal else 0, min(first + QUERIES, n_pos) if on_diagonal else diagonal
        for start in range(low, high, KEYS):
            key = start + tl.arange(0, KEYS)
            k = load_rows(k_rows, key, k_pos, n_pos, D_HEAD, D_TILE, UNIT)
            v = load_rows(v_rows, key, v_pos, n_pos, D_HEAD, D_TILE, UNIT)
            _, ds = score_gradients(q, k, v, dout, lse, delta, query, key, D_HEAD, on_diagonal)
            dq = dot(ds, k, dq)
    store_rows(dq_ptr + rows, dq * D_HEAD**-0.5, query, n_heads, n_pos, D_HEAD, D_TILE)


@triton.jit
def dk_dv_kernel(
    q_ptr,  # (batch, n_heads, n_pos, D_HEAD), by its strides, as are k, v and dout
    k_ptr,
    v_ptr,
    dout_ptr,
    lse_ptr,  # (batch, n_heads, n_pos), in base 2
    delta_ptr,  # (batch, n_heads, n_pos)
    dk_ptr,  # (batch, n_pos, n_heads, D_HEAD)
    dv_ptr,  # (batch, n_pos, n_heads, D_HEAD)
    q_batch,
    q_head,
    q_pos,
    k_batch,
    k_head,
    k_pos,
    v_batch,
    v_head,
    v_pos,
    dout_batch,
    dout_head,
    dout_pos,
    n_heads,
    n_pos,
    D_HEAD: tl.constexpr,
    D_TILE: tl.constexpr,
    UNIT: tl.constexpr,
    QUERIES: tl.constexpr,
    KEYS: tl.constexpr,
):
    """dK = scale dS^T Q and dV = P^T dO of one block of keys, over the queries from it on."""
    WIDE: tl.constexpr = lse_ptr.dtype.element_ty
    batch, head, block = place(n_heads, tl.cdiv(n_pos, KEYS))
    first = block * KEYS
    key = first + tl.arange(0, KEYS)
    rows, numbers = (batch * n_pos * n_heads + head) * D_HEAD, (batch * n_heads + head) * n_pos
    q_rows = strided(q_ptr, batch, head, q_batch, q_head, UNIT)
    dout_rows = strided(dout_ptr, batch, head, dout_batch, dout_head, UNIT)
    k = load_rows(strided(k_ptr, batch, head, k_batch, k_head, UNIT), key, k_pos, n_pos, D_HEAD, D_TILE, UNIT)
    v = load_rows(strided(v_ptr, batch, head, v_batch, v_head, UNIT), key, v_pos, n_pos, D_HEAD, D_TILE, UNIT)
    dk, dv = tl.zeros((KEYS, D_TILE), WIDE), tl.zeros((KEYS, D_TILE), WIDE)
    beyond = tl.cdiv(first + KEYS, QUERIES) * QUERIES
    for on_diagonal in tl.static_range(2):
        low = first // QUERIES * QUERIES if on_diagonal else beyond
        for start in range(low, min(beyond, n_pos) if on_diagonal else n_pos, QUERIES):
            query = start + tl.arange(0, QUERIES)
            q = load_rows(q_rows, query, q_pos, n_pos, D_HEAD, D_TILE, UNIT)
            dout = load_rows(dout_rows, query, dout_pos, n_pos, D_HEAD, D_TILE, UNIT)
            lse = tl.load(lse_ptr + numbers + query, mask=query < n_pos, other=float("inf"))
            delta = tl.load(delta_ptr + numbers + query, mask=query < n_pos, other=0)
            p, ds = score_gradients(q, k, v, dout, lse, delta, query, key, D_HEAD, on_diagonal)
            dk, dv = dot(tl.trans(ds), q, dk), dot(tl.trans(p), dout, dv)
    store_rows(dk_ptr + rows, dk * D_HEAD**-0.5, key, n_heads, n_pos, D_HEAD, D_TILE)
    store_rows(dv_ptr + rows, dv, key, n_heads, n_pos, D_HEAD, D_TILE)


def _tile(d_head: int) -> int:
    """Return the channels of a tile: a power of two that the tensor cores take."""
    return max(16, triton.next_power_of_2(d_head))


def launch_config(kernel, d_head: int, dtype: torch.dtype) -> dict[str, int]:
    """Return the blocks, the warps and the loads ahead of one of the kernels that go block by block."""
    tile = _tile(d_head)
    if dtype.itemsize > 2:
        # Without tensor cores the operands of a product lie in registers, which eight warps share from heads of 32 on.
        block = 32 if tile <= 64 else 16
        return {"QUERIES": block, "KEYS": block, "num_warps": 4 if tile == 16 else 8, "num_stages": 1}
    if kernel is dk_dv_kernel:
        # Two sums of (KEYS, tile) leave no registers for loads ahead, nor, in heads of 128, for 64 keys.
        return {"QUERIES": 64, "KEYS": 64 if tile <= 64 else 32, "num_warps": 4, "num_stages": 1}
    return {"QUERIES": 64, "KEYS": 64, "num_warps": 4, "num_stages": 1 if tile == 16 else 2}


def sink_attention_forward(q: Tensor, k: Tensor, v: Tensor, sink: Tensor) -> tuple[Tensor, Tensor]:
    """Return the output (batch, n_heads, n_pos, d_head) and what backward needs of the softmax, its log-sum-exp in base 2.

    Raises:
        ValueError: the heads are larger than MAX_D_HEAD.
    """
    n_batch, n_heads, n_pos, d_head = q.shape
    if d_head > MAX_D_HEAD:
        raise ValueError(f"backend=triton takes heads of up to {MAX_D_HEAD} channels, got {d_head}: choose backend=reference.")
    q, k, v = (whole_rows(x) for x in (q, k, v))
    out, lse = empty_rows(q), q.new_empty(n_batch, n_heads, n_pos, dtype=torch.promote_types(q.dtype, torch.float32))
    config = launch_config(forward_kernel, d_head, q.dtype)
    n_blocks = triton.cdiv(n_pos, config["QUERIES"])
    _launch(forward_kernel, n_blocks, (q, k, v, sink.contiguous(), out, lse), strided=(q, k, v), config=config)
    return out, lse


def sink_attention_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, sink: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and the sink from that of the output, and from what forward took and returned."""
    q, k, v, dout = strided = tuple(whole_rows(x) for x in (q, k, v, dout))
    sink, out, lse = sink.contiguous(), in_rows(out), lse.contiguous()
    dq, dk, dv = (empty_rows(q) for _ in range(3))
    n_batch, n_heads, n_pos, d_head = q.shape
    if whole_head.fits(_tile(d_head), n_pos, q.dtype):
        dsink = lse.new_empty(n_batch, n_heads)
        tensors = (q, k, v, sink, out, dout, lse, dq, dk, dv, dsink)
        _launch(whole_head.backward_kernel, 1, tensors, strided=strided, config=whole_head.launch_config(n_pos))
    else:
        config = launch_config(dq_kernel, d_head, q.dtype)
        n_blocks = triton.cdiv(n_pos, config["QUERIES"])
        delta, dsink = torch.empty_like(lse), lse.new_empty(n_batch * n_blocks, n_heads)
        _launch(dq_kernel, n_blocks, (q, k, v, sink, out, dout, lse, delta, dq, dsink), strided=strided, config=config)
        config = launch_config(dk_dv_kernel, d_head, q.dtype)
        n_blocks = triton.cdiv(n_pos, config["KEYS"])
        _launch(dk_dv_kernel, n_blocks, (q, k, v, dout, lse, delta, dk, dv), strided=strided, config=config)
    return dq, dk, dv, dsink.sum(0).to(sink.dtype)


def _launch(kernel, n_blocks: int, tensors: tuple[Tensor, ...], *, strided: tuple[Tensor, ...], config: dict[str, int]) -> None:
    """Run `n_blocks` programs for every head of every sequence; `strided` are the tensors that are read by their strides."""
    n_batch, n_heads, n_pos, d_head = strided[0].shape
    strides = [stride for x in strided for stride in x.stride()[:3]]
    unit = gcd(16 // strided[0].element_size(), *strides)
    if strided[0].numel():
        kernel[(n_batch * n_heads * n_blocks,)](
            *tensors,
            *(stride // unit for stride in strides),
            n_heads,
            n_pos,
            D_HEAD=d_head,
            D_TILE=_tile(d_head),
            UNIT=unit,
            **config,
        )


def aot_cases() -> Iterator[Case]:
    """Yield every kernel for every head size that is a launch configuration of its own, and two that fill a tile in part."""
    for dtype, d_head in product((torch.bfloat16, torch.float16, torch.float32), (8, 16, 24, 32, 64, 128)):
        for kernel in (forward_kernel, dq_kernel, dk_dv_kernel):
            yield _case(kernel, dtype, d_head, launch_config(kernel, d_head, dtype))
        for n_pos in range(whole_head.BLOCK, whole_head.MAX_POS + 1, whole_head.BLOCK):
            if whole_head.fits(_tile(d_head), n_pos, dtype):
                yield _case(whole_head.backward_kernel, dtype, d_head, whole_head.launch_config(n_pos), f" of {n_pos}")


def _case(kernel, dtype: torch.dtype, d_head: int, config: dict[str, int], of: str = "") -> Case:
    arguments = dict.fromkeys(kernel.arg_names, "i32")
    arguments |= {name: type_of(dtype, pointer=True) for name in kernel.arg_names if name.endswith("_ptr")}
    arguments |= dict.fromkeys(("sink_ptr", "lse_ptr", "delta_ptr", "dsink_ptr"), "*fp32:16")
    arguments |= {"D_HEAD": d_head, "D_TILE": _tile(d_head), "UNIT": 16 // dtype.itemsize} | config
    name = f"sink_attention {kernel.__name__.removesuffix('_kernel')}{of} {type_of(dtype)} {d_head}"
    return Case(name, kernel, arguments, config["num_warps"], config["num_stages"], wide_loads=True)
