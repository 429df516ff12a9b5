"""Tokenizers small enough to reason about, and tasks whose answers a stub can know."""

from itertools import islice

import pytest

from sparse_circuits.data.idioms import idiom_documents
from sparse_circuits.data.tokenizer import Tokenizer


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
    return Tokenizer.train(islice(idiom_documents(n_documents=200, seed=0), 200), d_vocab=1024)
