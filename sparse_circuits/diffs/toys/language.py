"""What all toy languages are: words that are tokens."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property


class Language(ABC):
    """A vocabulary of words; `first_id` lets a base model have other languages beside this one."""

    first_id = 0

    @property
    @abstractmethod
    def vocabulary(self) -> list[str]:
        """Every word, from token `first_id` on."""

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: self.first_id + number for number, token in enumerate(self.vocabulary)}

    @property
    def d_vocab(self) -> int:
        """One more than the last token id."""
        return self.first_id + len(self.vocabulary)

    def ids(self, words: Sequence[str]) -> list[int]:
        """Return the token ids of words."""
        return [self._ids[word] for word in words]
