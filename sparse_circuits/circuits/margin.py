"""Running a model, or what ablation leaves of it, on a task's pairs, and scoring its answers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.model import Transformer
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import PairBatch, answer_difference, task_accuracy, task_losses

PROMPTS_AT_ONCE = 64


@dataclass(frozen=True)
class Score:
    """How well answers do, as means over prompts."""

    loss: float
    """Two-way cross-entropy of the right answer, in nats."""
    accuracy: float


def score(margin: Float[Tensor, " n_prompts"]) -> Score:
    """Score the margins of a batch of pairs."""
    return Score(task_losses(margin).mean().item(), task_accuracy(margin))


def answer_margins(model: Transformer, batch: PairBatch, *, taps: Taps | None = None) -> Float[Tensor, " n_prompts"]:
    """Return for every prompt the log odds of the positive answer against the negative one.

    Prompts of similar length run together, so that little is spent on padding. Differentiable where gradients are on.
    """
    logits = []
    order = batch.last.argsort(stable=True)
    for rows in order.split(PROMPTS_AT_ONCE):
        last = batch.last[rows]
        logits.append(model(batch.tokens[rows, : int(last[-1]) + 1], taps=taps, at=last))
    return answer_difference(torch.cat(logits)[order.argsort()], batch)
