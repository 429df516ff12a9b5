"""A run's page, written or served."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sparse_circuits.bridges.load import load_bridged
from sparse_circuits.circuits import Circuit
from sparse_circuits.conf.verbs import ReportVerb, ViewVerb
from sparse_circuits.errors import UserError
from sparse_circuits.report import run_payload, write_report
from sparse_circuits.report.server.serve import serve
from sparse_circuits.report.server.session import Session, load_circuits, open_session
from sparse_circuits.report.server.steering import REFERENCE_TOKENS, Steering
from sparse_circuits.subject import model_of_circuits, samples_of, validation_rows


def report(config: ReportVerb, console: Console) -> Path:
    """Write a run's page and print where it is."""
    path = write_report(config.run, samples=samples_of(config.run))
    console.print(f"report: {path}", soft_wrap=True, markup=False)
    return path


def view(config: ViewVerb, console: Console) -> None:
    """Serve a run's page with its models behind it, until interrupted."""
    payload = run_payload(config.run, samples=samples_of(config.run))
    circuits = load_circuits(config.run, [circuit["task"] for circuit in payload["circuits"]])
    session = load_session(config, list(circuits.values()))

    def ready(address: str) -> None:
        console.print(f"{address}\nfor this machine only, while this runs; Ctrl-C ends it", soft_wrap=True, markup=False)
        if config.open:
            webbrowser.open(address)

    serve(payload, session, list(circuits), port=config.port, ready=ready)


def load_session(config: ViewVerb, circuits: Sequence[Circuit]) -> Session:
    """Load what a served page works with beside its circuits: their whole model, the bridge."""
    trained = model_of_circuits(config.run, config.checkpoint, {circuit.model_hash for circuit in circuits})
    try:
        steering, why = load_steering(config.run), None
    except UserError as error:  # the rest of the page is none the worse
        steering, why = None, str(error)
    return open_session(circuits, trained, steering=steering, why_no_steering=why)


def load_steering(run: Path) -> Steering:
    """Load a run's bridge with what steering takes; errors as of `load_bridged` and `validation_rows`."""
    bridged = load_bridged(run)
    return Steering(bridged, validation_rows(run, n_tokens=REFERENCE_TOKENS, n_ctx=bridged.sparse.config.n_ctx))
