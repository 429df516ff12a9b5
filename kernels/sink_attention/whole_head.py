"""The backward pass of a short sequence of small heads: one program a head, which computes every probability once.

The queries' gradients sum over keys and the keys' over queries. Where the queries' gradients of a whole head fit in registers
(256 positions of 16 channels take 32 of a thread's), a program can go through all blocks of a head, key block by key block,
and add to both. Two kernels, as for longer sequences, would compute each probability twice and read q, k, v and dout twice: at
256 positions some 9,100 instructions a warp where this one takes 3,500, counted in the code compiled for cuda 90. The blocks
are unrolled, since registers have no index that a loop could count; that is why the sequence must be short.

Not optimal: with 184 registers a thread, two programs share a multiprocessor, and a few heads alone do not fill a GPU.
"""

# ruff: noqa: RUF005 (Triton joins tuples by + alone)
import torch
import triton
import triton.language as tl

from sparse_circuits.kernels.sink_attention.tile import LOG2E, dot, load_rows, place, score_gradients, store_rows, strided

BLOCK = 64
MAX_POS = 256
MAX_TILE = 16


@triton.jit
def backward_kernel(
    q_ptr,  # (batch, n_heads, n_pos, D_HEAD), by its strides, as are k, v and dout
    k_ptr,
    v_ptr,
    sink_ptr,  # (n_heads,)
    out_ptr,  # (batch, n_pos, n_heads, D_HEAD)
    dout_ptr,
    lse_ptr,  # (batch, n_heads, n_pos), in base 2
    dq_ptr,  # (batch, n_pos, n_heads, D_HEAD), as are dk and dv
    dk_ptr,
    dv_ptr,
    dsink_ptr,  # (batch, n_heads), each program's share
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
    BLOCK: tl.constexpr,
    N_BLOCKS: tl.constexpr,
):
    WIDE: tl.constexpr = lse_ptr.dtype.element_ty
    batch, head, _ = place(n_heads, 1)
    rows, numbers = (batch * n_pos * n_heads + head) * D_HEAD, (batch * n_heads + head) * n_pos
    q_rows, k_rows = strided(q_ptr, batch, head, q_batch, q_head, UNIT), strided(k_ptr, batch, head, k_batch, k_head, UNIT)
    v_rows = strided(v_ptr, batch, head, v_batch, v_head, UNIT)
    dout_rows = strided(dout_ptr, batch, head, dout_batch, dout_head, UNIT)
    sink = tl.load(sink_ptr + head).to(WIDE) * LOG2E
    dsink = tl.zeros((BLOCK,), WIDE)
    dq, lse, delta = (), (), ()
    for i in tl.static_range(N_BLOCKS):
        query = i * BLOCK + tl.arange(0, BLOCK)
        dout = load_rows(dout_rows, query, dout_pos, n_pos, D_HEAD, D_TILE, UNIT)
        out = load_rows(out_ptr + rows, query, n_heads, n_pos, D_HEAD, D_TILE, D_HEAD)
        # An infinite log-sum-exp gives queries beyond the sequence no attention to anything.
        lse = lse + (tl.load(lse_ptr + numbers + query, mask=query < n_pos, other=float("inf")),)
        delta = delta + (tl.sum(out.to(WIDE) * dout.to(WIDE), axis=1),)
        dq = dq + (tl.zeros((BLOCK, D_TILE), WIDE),)
        dsink -= tl.exp2(sink - lse[i]) * delta[i]
    tl.store(dsink_ptr + tl.program_id(0), tl.sum(dsink, axis=0))
    for j in tl.static_range(N_BLOCKS):
        key = j * BLOCK + tl.arange(0, BLOCK)
        k = load_rows(k_rows, key, k_pos, n_pos, D_HEAD, D_TILE, UNIT)
        v = load_rows(v_rows, key, v_pos, n_pos, D_HEAD, D_TILE, UNIT)
        dk, dv = tl.zeros((BLOCK, D_TILE), WIDE), tl.zeros((BLOCK, D_TILE), WIDE)
        for i in tl.static_range(j, N_BLOCKS):
            query = i * BLOCK + tl.arange(0, BLOCK)
            q = load_rows(q_rows, query, q_pos, n_pos, D_HEAD, D_TILE, UNIT)
            dout = load_rows(dout_rows, query, dout_pos, n_pos, D_HEAD, D_TILE, UNIT)
            p, ds = score_gradients(q, k, v, dout, lse[i], delta[i], query, key, D_HEAD, i == j)
            dk, dv = dot(tl.trans(ds), q, dk), dot(tl.trans(p), dout, dv)
            dq = dq[:i] + (dot(ds, k, dq[i]),) + dq[i + 1 :]
        store_rows(dk_ptr + rows, dk * D_HEAD**-0.5, key, n_heads, n_pos, D_HEAD, D_TILE)
        store_rows(dv_ptr + rows, dv, key, n_heads, n_pos, D_HEAD, D_TILE)
    for i in tl.static_range(N_BLOCKS):
        query = i * BLOCK + tl.arange(0, BLOCK)
        store_rows(dq_ptr + rows, dq[i] * D_HEAD**-0.5, query, n_heads, n_pos, D_HEAD, D_TILE)


def fits(tile: int, n_pos: int, dtype: torch.dtype) -> bool:
    """Return whether the gradients of a head's queries fit in registers; in float32 the operands of the products do not."""
    return tile <= MAX_TILE and n_pos <= MAX_POS and dtype is not torch.float32


def launch_config(n_pos: int) -> dict[str, int]:
    """Return the blocks and warps of a program."""
    return {"BLOCK": BLOCK, "N_BLOCKS": triton.cdiv(n_pos, BLOCK), "num_warps": 4, "num_stages": 1}
