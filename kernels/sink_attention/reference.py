"""Causal attention with a sink, spelled out: the sink is one more logit in the softmax, and its value is zero."""

import torch
from einops import einsum, repeat
from jaxtyping import Float
from torch import Tensor


def attention_pattern(
    q: Float[Tensor, "batch n_heads pos d_head"],
    k: Float[Tensor, "batch n_heads pos d_head"],
    sink: Float[Tensor, " n_heads"] | None = None,
) -> Float[Tensor, "batch n_heads pos pos"]:
    """Return the probability that each query gives to each key; with a sink, rows sum to less than one."""
    n_pos, d_head = q.shape[-2:]
    scores = einsum(q, k, "batch head query d, batch head key d -> batch head query key") * d_head**-0.5
    future = torch.ones(n_pos, n_pos, dtype=torch.bool, device=q.device).triu(1)
    scores = scores.masked_fill(future, float("-inf"))
    if sink is None:
        return scores.softmax(dim=-1)
    column = repeat(sink.to(scores), "head -> batch head query 1", batch=len(q), query=n_pos)
    return torch.cat([column, scores], dim=-1).softmax(dim=-1)[..., 1:]


def sink_attention(
    q: Float[Tensor, "batch n_heads pos d_head"],
    k: Float[Tensor, "batch n_heads pos d_head"],
    v: Float[Tensor, "batch n_heads pos d_head"],
    sink: Float[Tensor, " n_heads"] | None = None,
) -> Float[Tensor, "batch n_heads pos d_head"]:
    """Attend causally, the sink taking its share of each query's attention and giving zero for it."""
    pattern = attention_pattern(q, k, sink)
    return einsum(pattern, v, "batch head query key, batch head key d -> batch head query d")
