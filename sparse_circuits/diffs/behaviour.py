"""A behaviour, by examples: what a model answers to some prompts, from a file, in parts that have nothing in common.

FILE.jsonl    {"prompt": "...", "answer": "..."} a line
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

from sparse_circuits.data import Tokenizer
from sparse_circuits.data.files import read_rows
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.errors import UserError

N_AT_LEAST = 16
"""Examples, so that each quarter has four."""


class Behaviour(NamedTuple):
    """Examples of a behaviour."""

    train: list[Lesson]
    """To learn masks on: half of them."""
    validation: list[Lesson]
    """To choose sizes on: a quarter."""
    held_out: list[Lesson]
    """To read the card off: the rest."""


def read_behaviour(path: Path, tokenizer: Tokenizer, *, n_ctx: int, seed: int = 0) -> Behaviour:
    """Read a behaviour, split at random; what stands there twice is one example.

    Args:
        path: a .jsonl of prompts and answers.
        tokenizer: the model's.
        n_ctx: most tokens of a prompt with its answer.
        seed: of the split.

    Raises:
        UserError: there is no such file, a line is no example or too long, or there are too few.
    """
    found: dict[tuple[str, str], Lesson] = {}
    for where, row in read_rows(path):
        prompt, answer = row.get("prompt"), row.get("answer")
        if not (isinstance(prompt, str) and prompt and isinstance(answer, str) and answer):
            raise UserError(f'{where} is no example: write {{"prompt": "...", "answer": "..."}}, neither of them empty.')
        lesson = Lesson(tokenizer.encode(prompt), tokenizer.encode(answer))
        if (n_tokens := len(lesson.prompt) + len(lesson.answer)) > n_ctx:
            raise UserError(f"{where} has {n_tokens} tokens and the model reads {n_ctx}: shorten it.")
        found[prompt, answer] = lesson
    if len(found) < N_AT_LEAST:
        raise UserError(f"{path} has {len(found)} examples: give at least {N_AT_LEAST} that differ.")
    lessons = list(found.values())
    random.Random(f"behaviour {seed}").shuffle(lessons)
    half, quarter = len(lessons) // 2, len(lessons) // 4
    return Behaviour(lessons[:half], lessons[half : half + quarter], lessons[half + quarter :])
