"""The validation loss."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.model import Transformer
from sparse_circuits.run import Autocast


@torch.no_grad()
def validation_loss(model: Transformer, batches: Iterable[Int[Tensor, "batch pos_plus_one"]], *, autocast: Autocast) -> float:
    """Return the mean next-token cross-entropy over the batches, in nats per token."""
    total, n_tokens = 0.0, 0
    device = model.embed.weight.device
    for batch in batches:
        batch = batch.to(device)
        with autocast():
            loss = model.loss(batch[:, :-1], batch[:, 1:])
        total += loss.item() * batch[:, 1:].numel()
        n_tokens += batch[:, 1:].numel()
    return total / n_tokens
