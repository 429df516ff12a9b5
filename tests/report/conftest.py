"""Fixtures of the small model, its circuits and its run."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from sparse_circuits.circuits import Means
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.model import Transformer, node_sites, site_width
from sparse_circuits.model.store import model_hash
from sparse_circuits.report.live import Place
from tests.report.small import MODEL, NODES, small_circuit, small_model, small_run, small_tokenizer


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
def place(tokenizer, make_circuit) -> Place:
    """A circuit in its whole model, where every change is seen: large weights, no AbsTopK, means that are not 0."""
    model = Transformer(replace(MODEL, abs_topk=1.0), d_vocab=tokenizer.d_vocab).eval().requires_grad_(False)
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.mul_(12)
    means = Means({site: 0.3 * torch.randn(site_width(MODEL, site)) for site in node_sites(MODEL)}, 100, model_hash(model))
    circuit = replace(make_circuit(), model=model, means=means, edges=circuit_edges(model, NODES))
    return Place(tokenizer, means, model, circuit)
