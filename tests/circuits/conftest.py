"""The toy and its circuit, made once; how many threads a test runs on."""

from collections.abc import Iterator

import pytest
import torch

from sparse_circuits.circuits import Circuit, extract
from tests.circuits.toy import EXTRACT, TASK, Toy, train_toy


@pytest.fixture(scope="session")
def toy() -> Toy:
    return train_toy()


@pytest.fixture(scope="session")
def circuit(toy: Toy) -> Circuit:
    return extract(toy.model, TASK, toy.tokenizer, toy.means, config=EXTRACT)


@pytest.fixture(params=[1, 2])
def n_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run a test on one thread, then on two, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
