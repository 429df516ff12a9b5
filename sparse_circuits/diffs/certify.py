"""How sure an adapter's answers are, learned on finetunes whose labels are known and measured on others.

Among both are as many shuffled finetunes, of the same norms and ranks, which have learned nothing, and are to say so.

Source: ours, see `confidence.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sparse_circuits.diffs.chat import Chat
from sparse_circuits.diffs.confidence import Calibration, Confidence, Signs, calibration, learn_confidence, shuffled, signs
from sparse_circuits.diffs.judge import is_exact
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.model.dense import Dense

Known = Sequence[tuple[WeightDiff, str]]
"""Finetunes with their labels."""


class Certified(NamedTuple):
    """What an answer's signs are worth."""

    confidence: Confidence
    calibration: Calibration
    """On finetunes that neither the adapter nor the confidence has learned from."""


class Examiner:
    """Asks finetunes one question in several wordings.

    Args:
        model: the base.
        chat: how it is asked.
        adapter: that finetunes are asked with.
        wordings: the question; the first one's answers count.
        n_tokens: most tokens of an answer.
    """

    def __init__(self, model: Dense, chat: Chat, adapter: WeightDiff, *, wordings: Sequence[str], n_tokens: int) -> None:
        self.model, self.chat, self.adapter, self.n_tokens = model, chat, adapter, n_tokens
        self.questions = [chat.prompt(each) for each in wordings]

    def signs(self, diffs: Sequence[WeightDiff]) -> list[Signs]:
        """Return what finetunes answer, with what tells how sure that is."""
        return signs(self.model, self.questions, diffs, adapter=self.adapter, n_tokens=self.n_tokens, ends=self.chat.ends)

    def certify(self, known: Known, asked: Known, *, nothing: str) -> Certified:
        """Learn the confidence of answers, and measure it.

        Args:
            known: finetunes to learn from, which the adapter has not learned from.
            asked: others.
            nothing: what is right to say of a shuffled finetune.

        Raises:
            UserError: all answers to learn from were right, or all wrong.
        """
        confidence = learn_confidence(*self._answered(known, nothing))
        found, is_right = self._answered(asked, nothing)
        return Certified(confidence, calibration(confidence(found), np.array(is_right)))

    def _answered(self, own: Known, nothing: str) -> tuple[list[Signs], list[bool]]:
        pool = [*own, *((shuffled(diff, seed=number), nothing) for number, (diff, _) in enumerate(own))]
        found = self.signs([diff for diff, _ in pool])
        right = [is_exact(self.chat.words(sign.answer), label) for sign, (_, label) in zip(found, pool, strict=True)]
        return found, right
