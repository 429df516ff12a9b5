"""What a user did wrong, said in one sentence with the remedy."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """A mistake of the caller; the command line prints its sentence and exits with code 2."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return ` (did you mean "x"?)` for the choice most like `word`, or an empty string."""
    matches = get_close_matches(word, list(choices), n=1, cutoff=0.5)
    return f' (did you mean "{matches[0]}"?)' if matches else ""
