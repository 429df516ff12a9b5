"""What a finetune makes likelier, without any training: the rival of every method that has to be trained.

A finetune that hides what it learned from its text (KL to the base behind every other prompt) seldom hides it from its logits.

Source: for the comparison that Goel et al. 2025 do not make.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.diffs.delta import by_diff
from sparse_circuits.diffs.lessons import Lesson, collate
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.model.dense import Dense


@torch.no_grad()
def logit_difference(
    model: Dense, texts: Sequence[Lesson], diffs: Sequence[WeightDiff], *, batch_size: int = 256
) -> Float[Tensor, "n_diffs d_vocab"]:
    """Return log p(token; finetune) - log p(token; base), the mean over the positions of some answers, in nats.

    Args:
        model: the base.
        texts: prompts with answers, the same for every finetune; the tokens of the answers are those read.
        diffs: the finetunes.
        batch_size: rows of one pass.

    Raises:
        UserError: there is no text or no diff, or a diff is of another model.
    """
    rows = collate(texts, device=next(model.parameters()).device)

    def mean_log(n_models: int) -> Float[Tensor, "n_models d_vocab"]:
        logits = model(rows.tokens.repeat(n_models, 1), at=rows.at.repeat(n_models, 1))
        return torch.stack([own.log_softmax(-1)[rows.is_answer].mean(0) for own in logits.chunk(n_models)])

    return by_diff(model, diffs, mean_log, at_once=max(1, batch_size // len(texts))) - mean_log(1)
