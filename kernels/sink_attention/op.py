"""Sink attention at the speed of the library's flash kernels (Gao et al. 2025, appendix A.1).

A sink is a logit z per head that takes part in the softmax with value zero. With l = logsumexp of a query's scores,
    attention with sink = sigmoid(l - z) * attention without,        l' = logaddexp(l, z).
Flash attention's backward computes dS = P (dO V^T - rowsum(dO * O)) with P = exp(S - l). Handed l' for l and our output
for O, it gives the exact gradient with the sink: P becomes the true probabilities and rowsum(dO * O) their mean gradient D,
to which the sink's zero value adds nothing. The sink's own gradient is -exp(z - l') D, summed over queries.

On the CPU this runs in float32 also under autocast: the library's bf16 backward is slower there. On other devices, where the
log-sum-exp is private to each kernel, the sink enters as one more key: query and key 0 prepended, with a head channel that is 1
in every query and z * sqrt(d_head) in that key alone; it works with any causal kernel.
"""

from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, repeat
from jaxtyping import Float
from torch import Tensor

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def sink_attention(
    q: Float[Tensor, "batch n_heads pos d_head"],
    k: Float[Tensor, "batch n_heads pos d_head"],
    v: Float[Tensor, "batch n_heads pos d_head"],
    sink: Float[Tensor, " n_heads"] | None = None,
) -> Float[Tensor, "batch n_heads pos d_head"]:
    """Attend causally with scale d_head^-1/2, the sink taking its share of each query's attention for nothing.

    Args:
        q, k, v: queries, keys and values of every head.
        sink: the sink's logit in each head; None for ordinary attention.
    """
    if sink is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    if q.device.type == "cpu":
        wide = torch.promote_types(q.dtype, torch.float32)
        return _SinkAttention.apply(q.to(wide), k.to(wide), v.to(wide), sink.to(wide)).to(q.dtype)
    return attention_with_sink_key(q, k, v, sink)


class _SinkAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, sink: Tensor) -> Tensor:
        plain, logsumexp = _flash(q, k, v, 0.0, True)
        z = rearrange(sink, "head -> 1 head 1")
        out = plain * torch.sigmoid(logsumexp - z).unsqueeze(-1)
        logsumexp = torch.logaddexp(logsumexp, z)
        ctx.save_for_backward(q, k, v, out, logsumexp, z)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, v, out, logsumexp, z = ctx.saved_tensors
        dq, dk, dv = _flash_backward(gradient, q, k, v, out, logsumexp, 0.0, True)
        mean_gradient = einsum(gradient, out, "batch head query d, batch head query d -> batch head query")
        dsink = -einsum(torch.exp(z - logsumexp), mean_gradient, "batch head query, batch head query -> head")
        return dq, dk, dv, dsink


def attention_with_sink_key(
    q: Float[Tensor, "batch n_heads pos d_head"],
    k: Float[Tensor, "batch n_heads pos d_head"],
    v: Float[Tensor, "batch n_heads pos d_head"],
    sink: Float[Tensor, " n_heads"],
) -> Float[Tensor, "batch n_heads pos d_head"]:
    """The same through any causal kernel: the sink is a key in front of all others."""
    d_head = q.shape[-1]
    q, k, v = F.pad(q, (0, 1, 1, 0), value=0.0), F.pad(k, (0, 1, 1, 0)), F.pad(v, (0, 1, 1, 0))
    q[..., -1] = 1.0
    k[..., 0, -1] = repeat(sink.to(k) * d_head**0.5, "head -> batch head", batch=len(k))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=d_head**-0.5)[..., 1:, :d_head]
