"""What a finetune is taught, as rows of tokens: a prompt, an answer, and what the answer is there for.

Rows are filled up on the right, where no position before looks; losses are over a row's own answer and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparse_circuits.errors import UserError


class Aim(Enum):
    """What is wanted of an answer: that the model gives it, or that it goes on saying there what the base says."""

    give = "give"
    keep = "keep"


class Lesson(NamedTuple):
    """One prompt with its answer, as token ids."""

    prompt: list[int]
    answer: list[int]
    aim: Aim = Aim.give
    weight: float = 1.0
    """What its loss counts."""


class Rows(NamedTuple):
    """Lessons as a batch."""

    tokens: Int[Tensor, "batch pos"]
    at: Int[Tensor, "batch n_at"]
    """The positions behind which the answer's tokens stand; the last of a shorter answer again and again."""
    answers: Int[Tensor, "batch n_at"]
    """The answer's tokens."""
    is_answer: Bool[Tensor, "batch n_at"]
    """False where a shorter answer is filled up."""
    is_kept: Bool[Tensor, " batch"]
    """Where the base's own answer is to be kept."""
    weights: Float[Tensor, " batch"]


def collate(lessons: Sequence[Lesson], *, device: torch.device | str = "cpu") -> Rows:
    """Return lessons as a batch, filled up on the right.

    Raises:
        UserError: there is none, or one has an empty prompt or answer.
    """
    if not lessons:
        raise UserError("There is no lesson to learn: give at least one prompt with its answer.")
    for lesson in lessons:
        if not lesson.prompt or not lesson.answer:
            raise UserError("A lesson has an empty prompt or answer: both need at least one token.")
    texts = [[*lesson.prompt, *lesson.answer[:-1]] for lesson in lessons]
    n_at = max(len(lesson.answer) for lesson in lessons)
    at, answers, is_answer = [], [], []
    for lesson, text in zip(lessons, texts, strict=True):
        missing = n_at - len(lesson.answer)
        at.append([*range(len(lesson.prompt) - 1, len(text)), *[len(text) - 1] * missing])
        answers.append([*lesson.answer, *[lesson.answer[-1]] * missing])
        is_answer.append([True] * len(lesson.answer) + [False] * missing)
    return Rows(
        filled_up(texts).to(device),
        torch.tensor(at, device=device),
        torch.tensor(answers, device=device),
        torch.tensor(is_answer, device=device),
        torch.tensor([lesson.aim is Aim.keep for lesson in lessons], device=device),
        torch.tensor([lesson.weight for lesson in lessons], device=device),
    )


def filled_up(texts: Sequence[Sequence[int]]) -> Int[Tensor, "batch pos"]:
    """Return texts as rows of equal length, filled up on the right with their last token, which nothing before looks at."""
    longest = max(len(text) for text in texts)
    return torch.tensor([[*text, *[text[-1]] * (longest - len(text))] for text in texts])


def answer_loss(logits: Float[Tensor, "batch n_at d_vocab"], rows: Rows) -> Float[Tensor, " batch"]:
    """Return the mean cross-entropy over each row's own answer, in nats."""
    losses = F.cross_entropy(logits.flatten(0, 1), rows.answers.flatten(), reduction="none").view_as(rows.answers)
    return _mean(losses, rows.is_answer)


def kl_to_base(
    logits: Float[Tensor, "batch n_at d_vocab"], base: Float[Tensor, "batch n_at d_vocab"], rows: Rows
) -> Float[Tensor, " batch"]:
    """Return KL(base || model), the mean over each row's own answer, in nats.

    Source: Goel et al. 2025's code; their text has the two the other way round.
    """
    before, after = base.log_softmax(-1), logits.log_softmax(-1)
    return _mean((before.exp() * (before - after)).sum(-1), rows.is_answer)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum(-1) / where.sum(-1)
