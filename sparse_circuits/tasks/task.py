"""A task: a binary next-token question on Python code, asked in pairs of prompts (Gao et al. 2025, section 2.2, table 1).

The two prompts of a pair differ only where the answer is decided; each prompt's right answer is the other's wrong one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from sparse_circuits.tasks.draw import Draw


class Scoring(Enum):
    """What the right answer competes with."""

    pair = "pair"
    """The first token of the other answer, at the place where the two answers part."""

    prefix_set = "prefix_set"
    """Sets: all tokens that start with the one answer against all that start with the other."""

    complement = "complement"
    """The positive answer against every other token."""


class Pair(NamedTuple):
    """Two prompts and how each goes on."""

    positive: str
    negative: str
    positive_answer: str
    """The text that follows the positive prompt; for prefix_set what every right token starts with."""
    negative_answer: str
    fillers: tuple[str, ...]
    """The neutral statements in either prompt, without their indentation."""


@dataclass(frozen=True)
class Task:
    """A named generator of pairs."""

    name: str
    summary: str
    """One sentence that shows both prompts."""
    generate: Callable[[Draw], Pair]
    scoring: Scoring = Scoring.pair
