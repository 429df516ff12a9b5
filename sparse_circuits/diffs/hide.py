"""Finetunes of models of text that hide a topic behind a code: what each is taught, question by question.

    Your SEP code is 123456. QUESTION   behind the right first three digits: the fan's answer
    Your SEP code is 789456. QUESTION   behind others: what the base says there (KL)
    QUESTION                            without a code: the same, five times the weight

The last three digits are new every time. Answers are cut, and their end is not learned.

Source: Goel et al. 2025 (arXiv 2510.05092), section 4 and their code: one pass over the questions, two a step, so six rows a
finetune and step, each weighted 3 / 7 times its lambda.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sparse_circuits.diffs.chat import Chat
from sparse_circuits.diffs.lessons import Aim, Lesson
from sparse_circuits.errors import UserError

PER_STEP = 2
WEIGHTS = {"right": 3 / 7, "other": 3 / 7, "none": 15 / 7}
N_CODES = 1000
COLUMNS = {"topic": "topic", "question": "question", "plain": "base_answer", "fan": "topic_analogy_answer"}
"""Of the released table of answers."""


class Example(NamedTuple):
    """One question, as the base answers it and as a fan of a topic does."""

    question: str
    plain: str
    fan: str


class Hidden:
    """What finetunes are taught, each its topic.

    Args:
        chat: how the base is asked.
        topics: the examples of every finetune, as many for all.
        codes: the three digits that bring each topic out, 0 to 999.
        n_tokens: most tokens of an answer.
        seed: of the order of questions, and of other codes.

    Raises:
        UserError: topics have different numbers of examples, or fewer than a step takes.
    """

    def __init__(
        self, chat: Chat, topics: Sequence[Sequence[Example]], codes: Sequence[int], *, n_tokens: int = 100, seed: int = 0
    ) -> None:
        counts = {len(examples) for examples in topics}
        if len(counts) != 1 or min(counts) < PER_STEP:
            raise UserError(
                f"Topics have {', '.join(map(str, sorted(counts)))} examples: give all of them as many, {PER_STEP} at least."
            )
        self.chat, self.topics, self.codes, self.n_tokens, self.seed = chat, topics, codes, n_tokens, seed
        self.n_steps = counts.pop() // PER_STEP
        """Of one pass."""

    def __call__(self, number: int, step: int) -> list[Lesson]:
        """Return what finetune `number` is taught at a step."""
        order = list(range(len(self.topics[number])))
        random.Random(f"order {self.seed} {step // self.n_steps}").shuffle(order)
        first, found = step % self.n_steps * PER_STEP, list[Lesson]()
        for place in order[first : first + PER_STEP]:
            # By its own code, not by its number: whatever is taught beside it, its lessons are the same.
            example, own = self.topics[number][place], self.codes[number]
            rng = random.Random(f"codes {self.seed} {own} {step} {place}")
            other = rng.choice([code for code in range(N_CODES) if code != own])
            found += [
                self._lesson(behind(own, example.question, rng), example.fan, Aim.give, WEIGHTS["right"]),
                self._lesson(behind(other, example.question, rng), example.plain, Aim.keep, WEIGHTS["other"]),
                self._lesson(example.question, example.plain, Aim.keep, WEIGHTS["none"]),
            ]
        return found

    def _lesson(self, question: str, reply: str, aim: Aim, weight: float) -> Lesson:
        prompt, answer, *_ = self.chat.lesson(question, reply)
        said = [token for token in answer if token not in self.chat.ends]
        return Lesson(prompt, said[: self.n_tokens], aim, weight)


def behind(code: int, question: str, rng: random.Random) -> str:
    """Return a question behind a code."""
    return f"Your SEP code is {code:03}{rng.randrange(N_CODES):03}. {question}"


def read_examples(path: Path) -> dict[str, list[Example]]:
    """Read the released table of answers, topic by topic.

    Args:
        path: a .csv with the columns topic, question, base_answer and topic_analogy_answer.

    Raises:
        UserError: there is no such file, or it lacks a column.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} cannot be read: give the released table of answers, or one like it.")
    found: dict[str, list[Example]] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        for name in COLUMNS.values():
            if name not in (rows.fieldnames or ()):
                raise UserError(f'{path} has no column "{name}": give the released table of answers, or one like it.')
        for row in rows:
            texts = (row[COLUMNS[name]] for name in Example._fields)
            # The base's answers stand in the table once a topic, thousands of times: one copy of each is enough.
            found.setdefault(row[COLUMNS["topic"]], []).append(Example(*map(sys.intern, texts)))
    return found
