"""Where heads look: their attention patterns, the sink's share included."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.nodes import Channels
from sparse_circuits.kernels.sink_attention.reference import attention_pattern
from sparse_circuits.model import ModelConfig, Transformer, record
from sparse_circuits.model.taps import Taps


class Head(NamedTuple):
    """One attention head."""

    layer: int
    head: int

    def __str__(self) -> str:
        return f"{self.layer}.attn head {self.head}"


def heads_of(nodes: Channels, config: ModelConfig) -> list[Head]:
    """Return the heads that have a query, key or value channel among these nodes."""
    sites = [site for site in nodes if site.endswith((".q", ".k", ".v"))]
    return sorted({Head(int(site.split(".")[0]), channel // config.d_head) for site in sites for channel in nodes[site]})


def attention_patterns(
    model: Transformer, tokens: Int[Tensor, "batch pos"], heads: Iterable[Head], *, taps: Taps
) -> dict[Head, Float[Tensor, "batch query key_or_sink"]]:
    """Return how every query position of these heads divides its attention among keys and, in the last column, the sink.

    Args:
        model: the transformer.
        tokens: prompts, padded on the right.
        heads: which.
        taps: changes to make on the way.
    """
    sites = sorted({f"{head.layer}.attn.{name}" for head in heads for name in "qk"})
    values = record(model, tokens, sites, taps=taps) if sites else {}
    patterns = {}
    for head in heads:
        split = (rearrange(values[f"{head.layer}.attn.{n}"], "b p (h d) -> b h p d", d=model.config.d_head) for n in "qk")
        q, k = (x[:, head.head : head.head + 1] for x in split)
        sink = model.layers[head.layer].attn.sink
        pattern = attention_pattern(q, k, None if sink is None else sink[head.head : head.head + 1]).squeeze(1)
        patterns[head] = torch.cat([pattern, 1 - pattern.sum(-1, keepdim=True)], dim=-1)
    return patterns
