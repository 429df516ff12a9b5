"""What the kernels of sink attention share: rows of one head in and out, products, and the softmax's exponentials."""

import os

import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
INTERPRETED: tl.constexpr = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def place(n_heads, n_blocks):
    """Return the batch, head and block of this program; heads come first, since neighbours share lines of the cache."""
    rest = tl.program_id(0) // n_heads
    return (rest // n_blocks).to(tl.int64), (tl.program_id(0) % n_heads).to(tl.int64), rest % n_blocks


@triton.jit
def strided(ptr, batch, head, batch_stride, head_stride, UNIT: tl.constexpr):
    """Return where a head's rows start; strides count UNIT channels, which tells the compiler how they are aligned."""
    return ptr + (batch * batch_stride + head * head_stride) * UNIT


@triton.jit
def load_rows(ptr, position, stride, n_pos, D_HEAD: tl.constexpr, D_TILE: tl.constexpr, UNIT: tl.constexpr):
    """Return the rows (positions, D_TILE) of a head, zero beyond the sequence and beyond the head."""
    channel = tl.arange(0, D_TILE)[None, :]
    inside = (position[:, None] < n_pos) & (channel < D_HEAD)
    return tl.load(ptr + position.to(tl.int64)[:, None] * stride * UNIT + channel, mask=inside, other=0)


@triton.jit
def store_rows(ptr, rows, position, n_heads, n_pos, D_HEAD: tl.constexpr, D_TILE: tl.constexpr):
    """Write the rows of one head of (batch, pos, n_heads, D_HEAD)."""
    channel = tl.arange(0, D_TILE)[None, :]
    inside = (position[:, None] < n_pos) & (channel < D_HEAD)
    tl.store(ptr + position.to(tl.int64)[:, None] * n_heads * D_HEAD + channel, rows, mask=inside)


@triton.jit
def dot(a, b, total):
    """Return total + a b, in float32 unless the inputs are float64."""
    # The interpreter keeps bfloat16 as bare bits and would multiply those.
    if INTERPRETED and a.dtype == tl.bfloat16:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision="ieee", out_dtype=total.dtype)


@triton.jit
def products(a, b, WIDE: tl.constexpr):
    """Return the products (rows of a, rows of b) of all rows."""
    return dot(a, tl.trans(b), tl.zeros((a.shape[0], b.shape[0]), WIDE))


@triton.jit
def exponentials(score, shift, D_HEAD: tl.constexpr):
    """Return 2^(scale score - shift) with the scale d_head^-1/2 in base 2: one multiply-add and one exponential a score."""
    scale = tl.full(score.shape, D_HEAD**-0.5 * LOG2E, score.dtype)
    return tl.exp2(tl.fma(score, scale, tl.broadcast_to(-shift[:, None], score.shape)))


@triton.jit
def score_gradients(q, k, v, dout, lse, delta, query, key, D_HEAD: tl.constexpr, MASKED: tl.constexpr):
    """Return the probabilities (queries, keys) and the gradients of the scaled scores, both in the dtype of the inputs.

    With P = exp(S - lse) and D = rowsum(dO O) the scores' gradient is dS = P (dO V^T - D). The sink changes lse and D only:
    its value is zero, and so it adds nothing to the mean gradient D.
    """
    p = exponentials(products(q, k, lse.dtype), lse, D_HEAD)
    if MASKED:
        p = tl.where(key[None, :] <= query[:, None], p, 0.0)
    ds = p * (products(dout, v, lse.dtype) - delta[:, None])
    return p.to(q.dtype), ds.to(q.dtype)
