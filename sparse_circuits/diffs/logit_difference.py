"""What a finetune makes likelier, without any training: the rival of every method that has to be trained.

A finetune that hides what it learned from its text (KL to the base behind every other prompt) seldom hides it from its logits.

Source: for the comparison that Goel et al. 2025 do not make.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.diffs.apply import applied_by_row, groups
from sparse_circuits.diffs.lessons import Lesson, Rows, collate
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.errors import UserError
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
    if not diffs:
        raise UserError("There is no finetune to compare with its base: give at least one diff.")
    rows = collate(texts, device=next(model.parameters()).device)
    before, found = _mean_log(model(rows.tokens, at=rows.at), rows), {}
    for group in groups(diffs, at_once=max(1, batch_size // len(texts))):
        with applied_by_row(model, [diffs[number] for number in group]):
            logits = model(rows.tokens.repeat(len(group), 1), at=rows.at.repeat(len(group), 1))
        found |= {number: _mean_log(own, rows) for number, own in zip(group, logits.chunk(len(group)), strict=True)}
    return torch.stack([found[number] for number in range(len(diffs))]) - before


def _mean_log(logits: Float[Tensor, "batch n_at d_vocab"], rows: Rows) -> Float[Tensor, " d_vocab"]:
    return logits.log_softmax(-1)[rows.is_answer].mean(0)
