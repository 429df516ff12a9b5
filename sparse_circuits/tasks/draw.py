"""Draws words of one split and sets a task's target into the surroundings that all tasks share.

A prompt is a function header, filler statements at depth 1 or 2, then the target line, cut where the answer comes.
Where the two targets differ in length, the last filler is longer on the shorter side. By how much depends on the
tokenizer, so a task lists its guesses, one is drawn, and pairs that come out unequal are dropped when they are encoded.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from sparse_circuits.data.words import FILLER_FORMS, WORDS, Split
from sparse_circuits.tasks.task import Pair

Choice = TypeVar("Choice")

N_TARGET_NAMES = 12
"""Names set apart for the target of one pair, so that no filler mentions them."""

INDENTS = ("    ", "        ")

MAX_FILLERS = 4
"""Filler statements before the one that balances the lengths."""


class Draw:
    """The words of one pair: every name it hands out is new to the pair.

    Args:
        rng: the only source of chance.
        split: whose words to use.
    """

    def __init__(self, rng: random.Random, split: Split) -> None:
        self._rng = rng
        self.split = split
        self._words = WORDS[split]
        names = rng.sample(self._words.names, len(self._words.names))
        self._target_names, self._filler_names = names[:N_TARGET_NAMES], names[N_TARGET_NAMES:]
        self._fillers: list[str] = []
        self.indent = rng.choice(INDENTS)
        """The indentation of the target line and the fillers."""

    def choice(self, options: Sequence[Choice]) -> Choice:
        """Return one of the options."""
        return self._rng.choice(options)

    def number(self, low: int, high: int) -> int:
        """Return an integer from `low` to `high`, both included."""
        return self._rng.randint(low, high)

    def numbers(self, n_numbers: int) -> list[int]:
        """Return numbers below 30."""
        return [self.number(1, 29) for _ in range(n_numbers)]

    def constant(self) -> str:
        """Return a truth value, None or a number."""
        return self.choice(("True", "False", "None", str(self.number(2, 20))))

    def shuffled(self, options: Sequence[Choice]) -> list[Choice]:
        """Return the options in another order."""
        return self._rng.sample(options, len(options))

    def name(self) -> str:
        """Return a name that nothing else in this pair mentions."""
        return self._target_names.pop()

    def names(self, n_names: int) -> list[str]:
        """Return names that nothing else in this pair mentions."""
        return [self.name() for _ in range(n_names)]

    def function(self) -> str:
        """Return a name for a function."""
        return self.choice(self._words.functions)

    def words(self, n_words: int) -> str:
        """Return the inside of a string: letters and single spaces, no quotes, no ends that punctuation could join."""
        return " ".join(self._rng.choices(self._words.strings, k=n_words))

    def distinct_words(self, n_words: int) -> list[str]:
        """Return different words for the inside of strings."""
        return self._rng.sample(self._words.strings, n_words)

    def filler(self) -> str:
        """Return a neutral statement."""
        return self._filler(self._rng.choice(FILLER_FORMS), self._rng.sample(self._filler_names, 4))

    def fillers(self, low: int, high: int, *, deeper: str = "") -> str:
        """Return `low` to `high` lines of neutral statements, at the target's indentation or `deeper`."""
        return "".join(f"{self.indent}{deeper}{self.filler()}\n" for _ in range(self.number(low, high)))

    def end_of_function(self) -> str:
        """Return what closes the enclosing function, so that the target can follow at column 0."""
        return f"{self.indent}return {self.choice(self._filler_names)}\n\n\n"

    def pair(
        self,
        positive: str,
        negative: str,
        *,
        answers: tuple[str, str],
        longer_by: Sequence[int] = (0,),
        functions: tuple[str, str] | None = None,
    ) -> Pair:
        """Set two targets into the same surroundings.

        Args:
            positive, negative: the target lines, with their indentation, cut where the answer comes.
            answers: how the two prompts go on.
            longer_by: guesses of how many tokens the positive target is longer than the negative one; 0 needs no balance.
            functions: name of the enclosing function on each side, where it is not the same.
        """
        arguments = self._rng.sample(self._filler_names, 2)
        functions = functions or (self.function(),) * 2
        headers = [f"def {function}({', '.join(arguments)}):\n" for function in functions]
        before = self._opening(*arguments) + self.fillers(0, MAX_FILLERS)
        balance = self._balance(self.choice(longer_by))
        targets = positive, negative
        prompts = [head + before + line + target for head, line, target in zip(headers, balance, targets, strict=True)]
        return Pair(*prompts, *answers, tuple(self._fillers))

    def _filler(self, form: str, names: Sequence[str]) -> str:
        self._fillers.append(form.format(*names))
        return self._fillers[-1]

    def _opening(self, data: str, item: str) -> str:
        """Return the head of the block that depth 2 stands in, nothing at depth 1."""
        if self.indent == INDENTS[0]:
            return ""
        return self.choice((f"    if {data}:\n", f"    for {item} in {data}:\n", f"    while {data}:\n"))

    def _balance(self, n_tokens: int) -> tuple[str, str]:
        """Return two filler lines, the second `n_tokens` longer than the first, or two empty ones for 0."""
        if n_tokens == 0:
            return "", ""
        names = self._rng.sample(self._filler_names, 4)
        short = self._rng.randrange(len(FILLER_FORMS) - abs(n_tokens))
        forms = (FILLER_FORMS[short], FILLER_FORMS[short + abs(n_tokens)])
        lines = [f"{self.indent}{self._filler(form, names)}\n" for form in forms]
        return (lines[0], lines[1]) if n_tokens > 0 else (lines[1], lines[0])
