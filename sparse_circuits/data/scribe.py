"""The hand that writes the idioms: a seeded source of words that remembers which names are bound."""

from __future__ import annotations

import builtins
import keyword
import random
from collections.abc import Sequence
from dataclasses import astuple

from sparse_circuits.data.words import COMMON_WORDS, WORDS, Split

NAMES = WORDS[Split.train].names
STRINGS = WORDS[Split.train].strings + COMMON_WORDS
QUOTES = ('"', "'")

# What names are invented of, and what they must not be.
ONSETS = ("b", "c", "d", "f", "g", "h", "k", "l", "m", "n", "p", "r", "s", "t", "v", "w", "z", "br", "ch", "pl", "st", "tr")
VOWELS = ("a", "e", "i", "o", "u")
CODAS = ("", "", "n", "r", "s", "t", "x")
TAKEN = {*keyword.kwlist, *dir(builtins), *(word for words in WORDS.values() for field in astuple(words) for word in field)}


class Scribe:
    """A source of words within the scope of one function.

    A name that is read was bound before in the same function, so that the text can be predicted by looking back.

    Args:
        rng: the only source of chance.
    """

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.choice, self.sample, self.number = rng.choice, rng.sample, rng.randint
        self.bind(self.names(2))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._rng.random() < probability

    def bind(self, names: Sequence[str]) -> None:
        """Start a new scope that knows these names alone."""
        self._bound = list(names)

    def name(self) -> str:
        """Return a name, mostly an invented one, which nothing is known about, else a training name or a common word."""
        match self.number(0, 5):
            case 0:
                return self.choice(NAMES)
            case 1:
                return self.choice(COMMON_WORDS)
            case _:
                return self.invented()

    def invented(self) -> str:
        """Return a pronounceable name that is no word of any list."""
        while True:
            name = "".join(self.choice(ONSETS) + self.choice(VOWELS) for _ in range(self.number(1, 3))) + self.choice(CODAS)
            if len(name) > 2 and name not in TAKEN:
                return name

    def names(self, n_names: int) -> list[str]:
        """Return different names."""
        found: list[str] = []
        while len(found) < n_names:
            if (name := self.name()) not in found:
                found.append(name)
        return found

    def new(self) -> str:
        """Bind a name."""
        self._bound.append(self.name())
        return self._bound[-1]

    def old(self) -> str:
        """Return a name that is bound."""
        return self.choice(self._bound)

    def words(self, low: int, high: int) -> str:
        """Return `low` to `high` words, some of them invented."""
        return " ".join(self.invented() if self.chance(0.25) else self.choice(STRINGS) for _ in range(self.number(low, high)))

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
