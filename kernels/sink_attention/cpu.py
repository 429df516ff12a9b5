"""Sink attention through the library's flash attention for the CPU, which knows no sinks.

With l = logsumexp of a query's scores and z the sink,
    attention with sink = sigmoid(l - z) * attention without,        l' = logaddexp(l, z).
Flash attention's backward computes dS = P (dO V^T - rowsum(dO * O)) with P = exp(S - l). Handed l' for l and our output
for O, it gives the exact gradient with the sink: P becomes the true probabilities and rowsum(dO * O) their mean gradient D,
to which the sink's zero value adds nothing. The sink's own gradient is -exp(z - l') D, summed over queries.
"""

import torch
from einops import einsum, rearrange
from torch import Tensor

from sparse_circuits.kernels.sink_attention.layout import empty_rows, in_rows, whole_rows

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def sink_attention_forward(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the output (batch, n_heads, n_pos, d_head) and the log-sum-exp with the sink.

    Scores have `bias` (batch, n_heads, n_pos, n_pos) added; without one they are causal.
    """
    out, lse = empty_rows(q), q.new_empty(q.shape[:3])
    if not q.numel():
        return out, lse  # the library would divide by a length of zero
    plain, logsumexp = _flash(*map(whole_rows, (q, k, v)), 0.0, bias is None, attn_mask=bias)
    z = rearrange(sink, "head -> 1 head 1")
    torch.mul(plain, torch.sigmoid(logsumexp - z).unsqueeze(-1), out=out)
    return out, torch.logaddexp(logsumexp, z, out=lse)


def sink_attention_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, sink: Tensor, out: Tensor, lse: Tensor, bias: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of q, k, v and the sink from that of the output, and from what forward took and returned."""
    if not q.numel():
        return empty_rows(q), empty_rows(q), empty_rows(q), torch.zeros_like(sink)
    gradients = _flash_backward(*map(whole_rows, (dout, q, k, v, out)), lse, 0.0, bias is None, attn_mask=bias)
    mean_gradient = einsum(dout, out, "batch head query d, batch head query d -> batch head query")
    share = torch.exp(rearrange(sink, "head -> 1 head 1") - lse)
    return *map(in_rows, gradients), -einsum(share, mean_gradient, "batch head query, batch head query -> head")
