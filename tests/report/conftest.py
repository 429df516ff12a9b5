"""Fixtures of the small model, its circuits and its run."""

from functools import partial
from pathlib import Path

import pytest

from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.report.live import Place
from tests.report.small import loud_circuit, small_circuit, small_model, small_run, small_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return small_tokenizer()


@pytest.fixture
def model(tokenizer):
    return small_model(tokenizer)


@pytest.fixture
def make_circuit(model, tokenizer):
    return partial(small_circuit, model, tokenizer)


@pytest.fixture
def run_folder(tmp_path, tokenizer, make_circuit) -> Path:
    return small_run(tmp_path / "small", tokenizer, [make_circuit()])


@pytest.fixture
def place(tokenizer) -> Place:
    """A circuit in its whole model, where every change is seen."""
    circuit = loud_circuit(tokenizer)
    return Place(tokenizer, circuit.means, circuit.model, circuit)
