"""Unembedding, bigram table and cross-entropy in one pass that never holds all logits."""

from sparse_circuits.kernels.next_token_loss.op import next_token_loss

__all__ = ["next_token_loss"]
