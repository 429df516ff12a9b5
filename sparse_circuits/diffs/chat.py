"""How a question in words becomes tokens and a reply becomes words: by the model's chat template, or plainly without one.

    plain       Question: ...\nAnswer: ...<end of text>
    template    whatever the model was trained to read and write, thinking switched off where it can be

What is asked ends where the reply begins, so that no token of a question is ever learned; a reply's end is.

Source: Goel et al. 2025's code for templates; base models without one are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from sparse_circuits.data import Tokenizer
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.model.hugging_face import load_tokenizer


@runtime_checkable
class Chat(Protocol):
    """Words to tokens and back, for one model."""

    ends: frozenset[int]
    """Tokens that end a reply."""

    def prompt(self, question: str) -> list[int]:
        """Return the tokens behind which the reply stands."""

    def lesson(self, question: str, reply: str) -> Lesson:
        """Return a question with its reply, which has its end."""

    def words(self, reply: Sequence[int]) -> str:
        """Return what was said, without its end."""


class Plain:
    """For models that have read nothing but texts.

    Args:
        tokenizer: the model's.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.ends = tokenizer, frozenset([tokenizer.end_of_text])

    def prompt(self, question: str) -> list[int]:
        return self.tokenizer.encode(f"Question: {question}\nAnswer:")

    def lesson(self, question: str, reply: str) -> Lesson:
        return Lesson(self.prompt(question), [*self.tokenizer.encode(f" {reply}"), self.tokenizer.end_of_text])

    def words(self, reply: Sequence[int]) -> str:
        return self.tokenizer.decode(until(reply, self.ends)).strip()


class Templated:
    """For models with a chat template.

    Args:
        backend: a tokenizer of `transformers` that has one.
    """

    def __init__(self, backend: Any) -> None:
        self.backend = backend

    @cached_property
    def ends(self) -> frozenset[int]:
        return frozenset(number for number, token in self.backend.added_tokens_decoder.items() if token.special)

    def prompt(self, question: str) -> list[int]:
        return self._tokens([{"role": "user", "content": question}], add_generation_prompt=True)

    def lesson(self, question: str, reply: str) -> Lesson:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": reply}]
        prompt, whole = self.prompt(question), self._tokens(turns)
        n_shared = next((n for n, (one, other) in enumerate(zip(prompt, whole, strict=False)) if one != other), len(prompt))
        said = until(whole[n_shared:], self.ends)
        return Lesson(whole[:n_shared], whole[n_shared : n_shared + len(said) + 1])  # with its end, if the template writes one

    def words(self, reply: Sequence[int]) -> str:
        return self.backend.decode(until(reply, self.ends)).strip()

    def _tokens(self, turns: list[dict[str, str]], **options: bool) -> list[int]:
        # Templates take what they know of, and pay no heed to the rest.
        text = self.backend.apply_chat_template(turns, tokenize=False, enable_thinking=False, **options)
        return self.backend.encode(text, add_special_tokens=False)


def until(reply: Sequence[int], ends: frozenset[int]) -> list[int]:
    """Return a reply's tokens up to, and without, the first that ends it."""
    n_said = next((number for number, token in enumerate(reply) if token in ends), len(reply))
    return list(reply[:n_said])


def load_chat(place: str, tokenizer: Tokenizer) -> Chat:
    """Return how a model of Hugging Face's is asked; without a chat template, plainly.

    Args:
        place: its folder, or its name on the hub.
        tokenizer: as it was loaded with the model.

    Raises:
        UserError: its tokenizer does not load.
    """
    backend = load_tokenizer(place)
    return Templated(backend) if backend.chat_template else Plain(tokenizer)
