"""Tokenizers small enough to reason about, and tasks whose answers a stub can know."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sparse_circuits.data.idioms import idiom_documents
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


@pytest.fixture(scope="session")
def byte_tokenizer() -> Tokenizer:
    """One token a byte: every length and id can be told by eye."""
    return Tokenizer.train(["ab"], d_vocab=257)


@pytest.fixture(scope="session")
def merging_tokenizer() -> Tokenizer:
    """Merges punctuation: `")` and `")` + newline are tokens."""
    return Tokenizer.train(['x("a")\ny("b") ' * 50], d_vocab=264)


@pytest.fixture(scope="session")
def code_tokenizer() -> Tokenizer:
    """A vocabulary of simple Python."""
    return Tokenizer.train(idiom_documents(n_documents=200, seed=0), d_vocab=1024)


def _closing(opened: str, closed: str) -> Callable[[Draw], Pair]:
    """Return a generator whose prompts open with one of two signs and are answered by its partner."""

    def generate(draw: Draw) -> Pair:
        text = draw.words(draw.number(1, 4))
        prompts = [f"{sign}{text}" for sign in opened]
        return Pair(*prompts, *closed, fillers=(text,))

    return generate


@pytest.fixture
def bracket_task() -> Task:
    """`(word` closes with `)`, `[word` with `]`: the first token decides."""
    return Task("bracket", "a bracket closes as it opened", _closing("([", ")]"))


@pytest.fixture
def angle_task() -> Task:
    """`<word` closes with `>`, `{word` with `}`."""
    return Task("angle", "an angle closes as it opened", _closing("<{", ">}"))


@pytest.fixture
def last_token_task() -> Task:
    """`word<` is answered by `>`, `word[` by `]`: the last token decides."""

    def generate(draw: Draw) -> Pair:
        text = draw.words(draw.number(1, 4))
        return Pair(f"{text}<", f"{text}[", ">", "]", fillers=(text,))

    return Task("last_token", "the last token decides", generate)


@pytest.fixture
def bracket_model(byte_tokenizer: Tokenizer) -> Callable[..., Tensor]:
    """A model that closes round and square brackets for sure, and is at a loss everywhere else."""
    (opened, closed), (square, square_closed) = byte_tokenizer.encode("()"), byte_tokenizer.encode("[]")

    def model(tokens: Tensor, *, at: Tensor) -> Tensor:
        logits = torch.zeros(len(tokens), byte_tokenizer.d_vocab)
        logits[tokens[:, 0] == opened, closed] = 9.0
        logits[tokens[:, 0] == square, square_closed] = 9.0
        return logits

    return model
