"""Fixtures of the small model, its circuits and its run, and of the live server on it."""

import json
import threading
from functools import partial
from pathlib import Path

import pytest

from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.report.payload import circuit_payload
from sparse_circuits.report.server.api import answers
from sparse_circuits.report.server.live import Place
from sparse_circuits.report.server.serve import Server, page_of
from sparse_circuits.report.server.session import Session
from sparse_circuits.report.server.worker import Worker
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


@pytest.fixture
def worker():
    worker = Worker(n_waiting=2)
    yield worker
    worker.close()


@pytest.fixture
def session(place):
    return Session(None, [place], None, "The run has no bridge: train one.")


@pytest.fixture
def start():
    """Start a server with some answers, and end it behind the test."""
    running = []

    def start(answers, page=b"<p>a page</p>"):
        server = Server(page, answers)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server(start, session, worker, place):
    return start(answers(session, worker, keep_notes=pytest.fail), page_of(circuit_payload(place.circuit)))


@pytest.fixture
def echo(start):
    return start({"api/echo": lambda body: json.loads(body)})
