"""The hand that writes the idioms: a seeded source of training words that remembers which names are bound."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sparse_circuits.data.words import COMMON_WORDS, WORDS, Split

NAMES = WORDS[Split.train].names + COMMON_WORDS
STRINGS = WORDS[Split.train].strings + COMMON_WORDS
QUOTES = ('"', "'")


class Scribe:
    """A source of words within the scope of one function.

    A name that is read was bound before in the same function, so that the text can be predicted by looking back.

    Args:
        rng: the only source of chance.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.choice, self.sample, self.number = rng.choice, rng.sample, rng.randint
        self.bind(rng.sample(NAMES, 2))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._rng.random() < probability

    def bind(self, names: Sequence[str]) -> None:
        """Start a new scope that knows these names alone."""
        self._bound = list(names)

    def new(self) -> str:
        """Bind a name."""
        self._bound.append(self.choice(NAMES))
        return self._bound[-1]

    def old(self) -> str:
        """Return a name that is bound."""
        return self.choice(self._bound)

    def words(self, low: int, high: int) -> str:
        """Return `low` to `high` words."""
        return " ".join(self._rng.choices(STRINGS, k=self.number(low, high)))

    def string(self, low: int, high: int) -> str:
        """Return a string literal of `low` to `high` words in either kind of quotes."""
        quote = self.choice(QUOTES)
        return quote + self.words(low, high) + quote

    def numbers(self, low: int, high: int) -> list[int]:
        """Return `low` to `high` numbers below 30."""
        return self._rng.choices(range(1, 30), k=self.number(low, high))

    def constant(self) -> str:
        """Return a truth value, None or a number."""
        return self.choice(("True", "False", "None", "0", "1", str(self.number(2, 20))))
