"""Causal attention with a learned sink logit per head."""

from sparse_circuits.kernels.sink_attention.op import sink_attention

__all__ = ["sink_attention"]
