"""Finetuning by preference: of two answers the one is to become likelier than the other, as measured from the base.

    loss = -log sigmoid(beta ((log p(chosen) - log p0(chosen)) - (log p(rejected) - log p0(rejected))))

Source: Rafailov et al. 2023, Direct Preference Optimization, equation 7; log p is of a whole answer, p0 the base's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.diffs.bank import LoraBank
from sparse_circuits.diffs.factors import adding
from sparse_circuits.diffs.lessons import Lesson, Rows, collate
from sparse_circuits.model.dense import Dense

BETA = 0.1


class Preference(NamedTuple):
    """One prompt with two answers, as token ids."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]


def preference_losses(model: Dense, bank: LoraBank, batch: Sequence[Preference]) -> Float[Tensor, " n_pairs"]:
    """Return the loss of every pair, for `finetune`.

    Args:
        model: the base.
        bank: the finetunes' factors.
        batch: as many pairs of every finetune, finetune after finetune.
    """
    chosen = [Lesson(each.prompt, each.chosen) for each in batch]
    rejected = [Lesson(each.prompt, each.rejected) for each in batch]
    return -F.logsigmoid(BETA * (_gain(model, bank, chosen) - _gain(model, bank, rejected)))


def _gain(model: Dense, bank: LoraBank, lessons: Sequence[Lesson]) -> Float[Tensor, " n_pairs"]:
    """Return by how much likelier each answer has become, in nats."""
    rows = collate(lessons, device=bank.ups[0].device)
    with torch.no_grad():
        before = answer_logprob(model(rows.tokens, at=rows.at), rows)
    with adding(model, bank.factors()):
        after = answer_logprob(model(rows.tokens, at=rows.at), rows)
    return after - before


def answer_logprob(logits: Float[Tensor, "batch n_at d_vocab"], rows: Rows) -> Float[Tensor, " batch"]:
    """Return the log-probability of each row's whole answer, in nats."""
    each = logits.log_softmax(-1).gather(-1, rows.answers.unsqueeze(-1)).squeeze(-1)
    return (each * rows.is_answer).sum(-1)
