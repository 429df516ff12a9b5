"""The texts of tokens, each stored once and known elsewhere by its place."""

from __future__ import annotations

from collections.abc import Iterable

from sparse_circuits.data.tokenizer import Tokenizer


class Texts:
    """Distinct texts, in the order in which they were first met; of any number of tokenizers."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Return the place of a text, which is taken in where it is new."""
        return self._places.setdefault(text, len(self._places))

    def places(self, ids: Iterable[int], tokenizer: Tokenizer) -> list[int]:
        """Return the places of the texts of these tokens."""
        return [self.place(tokenizer.token(token)) for token in ids]

    def listed(self) -> list[str]:
        """Return all texts so far, by place."""
        return list(self._places)
