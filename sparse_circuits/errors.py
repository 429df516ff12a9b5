"""What a user did wrong, said in one sentence with the remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any


class UserError(ValueError):
    """A mistake of the caller; the command line prints its sentence and exits with code 2."""


def check_counts(values: Mapping[str, Any], *names: str, of: str = "") -> None:
    """Raise where one of the named values counts things and is below 1; None counts nothing. `of` goes before the name."""
    for name in names:
        if values[name] is not None and values[name] < 1:
            raise UserError(f"{of}{name} is {values[name]}: give at least 1.")


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ` (did you mean "x"?)` for the choice most like `word`, or an empty string."""
    matches = get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f' (did you mean "{matches[0]}"?)' if matches else ""
