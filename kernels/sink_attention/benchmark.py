"""Sink attention against the memory, the library and FlexAttention.

Roofline. With n = batch n_heads n_pos queries of d_head entries of b bytes, forward reads q, k and v and writes the output and
a log-sum-exp; backward reads those five and the output's gradient and writes three gradients:
    forward     4 b n d_head + 4 n       256 x 128 heads x 256 x 16 in bf16: 1.11 GB, 0.26 ms at the 4.3 TB/s that a copy
                                         reaches on an H200
    backward    8 b n d_head + 4 n                                           2.18 GB, 0.51 ms
Operations: causal scores number n (n_pos + 1) / 2 = 1.08 G for that shape. Products are 4 d_head operations a score forward and
10 d_head backward, 0.24 T in all. The exponentials, one a score in each pass, weigh more: sm_90 issues 16 a clock and
multiprocessor, so that 132 of them need 0.51 M clocks a pass, 0.64 M with the blocks of 64 that the kernels compute beside the
diagonal. At heads of 16 that time is of the order of the memory's.

The target stands among the peers: the library's flash attention with heads of 32, as many of them, and without sinks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

from sparse_circuits.kernels.backend import compiled
from sparse_circuits.kernels.bench import Bench, Size, name_of
from sparse_circuits.kernels.sink_attention import reference
from sparse_circuits.kernels.sink_attention.op import attention_with_sink_key, sink_attention

SHAPES = {
    Size.gpu: [(256, 128, 256, 16, torch.bfloat16), (256, 64, 256, 32, torch.bfloat16), (16, 16, 2048, 128, torch.bfloat16)],
    Size.cpu: [(32, 16, 128, 16, torch.float32)],
    Size.dry: [(2, 2, 70, 16, torch.bfloat16), (1, 2, 70, 24, torch.float32)],
}
"""Batch, heads, positions, head size and dtype; the first is the paper's model."""
TOLERANCE = {torch.bfloat16: 2e-2, torch.float32: 1e-4}
"""Error allowed, as a share of the norm."""

Call = tuple[Callable[..., Tensor], list[Tensor], Tensor]
"""What attends, to which inputs, and the gradient of its output."""


def benches(device: torch.device, size: Size) -> Iterator[Bench]:
    """Yield forward alone, and forward and backward, at every shape."""
    for *shape, dtype in SHAPES[size]:
        n_batch, n_heads, n_pos, d_head = shape
        inputs, dout = random_inputs(*shape, device=device, dtype=dtype)
        n_queries, n_bytes = n_batch * n_heads * n_pos, dout.numel() * dtype.itemsize
        name = f"{n_batch} x {n_heads} heads x {n_pos} x {d_head}, {name_of(dtype)}"
        if device.type != "cuda":
            name += " (FlexAttention: on a GPU only)"
        right = partial(check, inputs, dout)
        for op, run, floor in (
            ("sink_attention", forward, 4 * n_bytes + 4 * n_queries),
            ("sink_attention and backward", forward_and_backward, 12 * n_bytes + 8 * n_queries),
        ):
            calls = {key: partial(run, *call) for key, call in peers(inputs, dout).items()}
            yield Bench(op, name, partial(run, sink_attention, inputs, dout), calls, right, floor)


def random_inputs(
    n_batch: int, n_heads: int, n_pos: int, d_head: int, *, device: torch.device, dtype: torch.dtype
) -> tuple[list[Tensor], Tensor]:
    """Return queries, keys, values and sinks, and a gradient of the output, all laid out as the model lays them out."""
    rows = torch.randn(4, n_batch, n_pos, n_heads * d_head, device=device, dtype=dtype)
    q, k, v, dout = (rearrange(x, "batch pos (head d) -> batch head pos d", head=n_heads) for x in rows)
    return [x.detach().requires_grad_() for x in (q, k, v, torch.randn(n_heads, device=device))], dout


def forward(attend: Callable[..., Tensor], inputs: list[Tensor], dout: Tensor) -> Tensor:
    """Return the output, with nothing kept for backward."""
    with torch.no_grad():
        return attend(*inputs)


def forward_and_backward(attend: Callable[..., Tensor], inputs: list[Tensor], dout: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients of the inputs."""
    return torch.autograd.grad(attend(*inputs), inputs, dout)


def peers(inputs: list[Tensor], dout: Tensor) -> dict[str, Call]:
    """Return the library's ways to the same, and its flash attention without sinks at the target's head size."""
    n_batch, n_heads, n_pos, d_head = dout.shape
    device, dtype = dout.device, dout.dtype
    wide, wide_dout = random_inputs(n_batch, n_heads, n_pos, 2 * d_head, device=device, dtype=dtype)
    future = torch.full((n_pos, n_pos), float("-inf"), device=device, dtype=dtype).triu(1)
    found: dict[str, Call] = {
        "SDPA, sink key and additive mask": (partial(masked, future=future), inputs, dout),
        "SDPA, sink in a channel": (attention_with_sink_key, inputs, dout),
        f"SDPA flash of heads of {2 * d_head}, no sink": (flash, wide[:3], wide_dout),
    }
    if device.type == "cuda":
        past = create_block_mask(is_past, None, None, n_pos, n_pos, device=device)
        found["FlexAttention"] = (partial(compiled(flex), past=past), inputs, dout)
    return found


def masked(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, *, future: Tensor) -> Tensor:
    """Attend to a key of zeros in front, whose score is the additive mask's sink."""
    column = repeat(sink.to(q.dtype), "head -> head query 1", query=q.shape[2])
    mask = torch.cat([column, repeat(future, "query key -> head query key", head=q.shape[1])], dim=-1)
    k, v = F.pad(k, (0, 0, 1, 0)), F.pad(v, (0, 0, 1, 0))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def flash(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend causally through the library's flash attention or not at all."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)


def flex(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, *, past: BlockMask) -> Tensor:
    """Attend through FlexAttention and give the sink its share by the log-sum-exp l: sigmoid(l - sink) stays."""
    out, aux = flex_attention(q, k, v, block_mask=past, return_aux=AuxRequest(lse=True))
    return (out * torch.sigmoid(aux.lse - rearrange(sink, "head -> 1 head 1")).unsqueeze(-1)).to(q.dtype)


def is_past(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Mark the keys that a query may see."""
    return query >= key


def check(inputs: list[Tensor], dout: Tensor) -> None:
    """Assert that output and gradients are the reference's, which runs in float64, a few sequences at a time."""
    # Freed at once, so that the op is likely to be given memory that holds NaN.
    [torch.full_like(dout, float("nan")) for _ in range(4)].clear()
    out = sink_attention(*inputs)
    found = (out, *torch.autograd.grad(out, inputs, dout))
    sink = inputs[3].detach().double().requires_grad_()
    parts = []
    for *rows, gradient in zip(*(x.detach().split(4) for x in inputs[:3]), dout.split(4), strict=True):
        wide = [x.double().requires_grad_() for x in rows]
        part = reference.sink_attention(*wide, sink)
        parts.append((part.detach(), *torch.autograd.grad(part, (*wide, sink), gradient.double())))
    *expected, dsinks = zip(*parts, strict=True)
    for ours, right in zip(found, (*map(torch.cat, expected), sum(dsinks)), strict=True):
        assert (ours - right).norm() <= TOLERANCE[dout.dtype] * right.norm()
