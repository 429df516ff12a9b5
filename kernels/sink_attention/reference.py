"""Causal attention with a sink, spelled out: the sink is one more logit in the softmax, and its value is zero."""

import torch
from einops import einsum, repeat
from jaxtyping import Float
from torch import Tensor


def attention_pattern(
    q: Float[Tensor, "batch n_heads query d_head"],
    k: Float[Tensor, "batch n_heads pos d_head"],
    sink: Float[Tensor, " n_heads"] | None = None,
    *,
    bias: Float[Tensor, "batch query pos"] | None = None,
) -> Float[Tensor, "batch n_heads query pos"]:
    """Return the probability that each query gives to each key; with a sink, rows sum to less than one."""
    n_queries, d_head = q.shape[-2:]
    scores = einsum(q, k, "batch head query d, batch head key d -> batch head query key") * d_head**-0.5
    if bias is None:
        bias = scores.new_full((1, n_queries, n_queries), float("-inf")).triu(1)
    scores = scores + bias.to(scores.dtype).unsqueeze(1)
    if sink is None:
        return scores.softmax(dim=-1)
    column = repeat(sink.to(scores), "head -> batch head query 1", batch=len(q), query=n_queries)
    return torch.cat([column, scores], dim=-1).softmax(dim=-1)[..., 1:]


def sink_attention(
    q: Float[Tensor, "batch n_heads query d_head"],
    k: Float[Tensor, "batch n_heads pos d_head"],
    v: Float[Tensor, "batch n_heads pos d_head"],
    sink: Float[Tensor, " n_heads"] | None = None,
    *,
    bias: Float[Tensor, "batch query pos"] | None = None,
) -> Float[Tensor, "batch n_heads query d_head"]:
    """Attend with a bias on the scores, by default causally; the sink takes its share and gives zero for it."""
    pattern = attention_pattern(q, k, sink, bias=bias)
    return einsum(pattern, v, "batch head query key, batch head key d -> batch head query d")
