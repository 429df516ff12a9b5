"""The toy and its circuit, made once."""

import pytest

from sparse_circuits.circuits import Circuit, extract
from tests.circuits.toy import EXTRACT, TASK, Toy, train_toy


@pytest.fixture(scope="session")
def toy() -> Toy:
    return train_toy()


@pytest.fixture(scope="session")
def circuit(toy: Toy) -> Circuit:
    return extract(toy.model, TASK, toy.tokenizer, toy.means, config=EXTRACT)
