"""Finetunes whose labels are known, as an adapter learns from them: read as they come, and split so that no label is twice."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import overload

from sparse_circuits.diffs.adapter import Sample
from sparse_circuits.diffs.chat import Chat
from sparse_circuits.diffs.store import Part
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.errors import UserError

SHARES = {Part.validation: 0.1, Part.test: 0.2}
"""Of labels, where a pool has no split of its own."""


@dataclass(frozen=True)
class Labelled:
    """One finetune of a pool."""

    name: str
    """What it is called in its pool."""
    label: str
    """What it has learned, in words."""
    load: Callable[[], WeightDiff]
    part: Part | None = None
    """None: of no split yet."""


class Samples(Sequence[Sample]):
    """Finetunes with the one question and their labels as replies; each is read when it is asked for.

    Args:
        pool: the finetunes.
        chat: how the base is asked.
        question: what all of them are asked.
    """

    def __init__(self, pool: Sequence[Labelled], chat: Chat, question: str) -> None:
        self.pool, self.chat, self.question = list(pool), chat, question

    def __len__(self) -> int:
        return len(self.pool)

    @overload
    def __getitem__(self, number: int) -> Sample: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[Sample]: ...
    def __getitem__(self, number: int | slice) -> Sample | Sequence[Sample]:
        if isinstance(number, slice):
            return Samples(self.pool[number], self.chat, self.question)
        own = self.pool[number]
        return Sample(own.load(), self.chat.lesson(self.question, own.label))


def split_by_label(pool: Sequence[Labelled], *, seed: int = 0) -> list[Labelled]:
    """Return a pool whose finetunes all have a part: their own, or drawn so that no label is in two of them.

    Raises:
        UserError: some have a part and others not, or there are too few labels to learn from some and ask about others.
    """
    if len({own.part is None for own in pool}) > 1:
        raise UserError("Some finetunes name a split and some do not: give all of them one of train, validation and test.")
    if pool and pool[0].part is None:
        labels = sorted({own.label for own in pool})
        random.Random(seed).shuffle(labels)
        n_validation, n_test = (max(1, round(share * len(labels))) for share in SHARES.values())
        parts = dict.fromkeys(labels, Part.train)
        parts |= dict.fromkeys(labels[:n_test], Part.test) | dict.fromkeys(labels[n_test:][:n_validation], Part.validation)
        pool = [replace(own, part=parts[own.label]) for own in pool]
    for part in (Part.train, Part.test):
        if not any(own.part is part for own in pool):
            raise UserError(
                f"There is no finetune to {part.name} with: give at least three labels, or a pool whose split has some."
            )
    return list(pool)
