"""The whole walk at one go."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from sparse_circuits.circuits import Circuit
from sparse_circuits.conf.verbs import ExtractVerb, QuickstartVerb, TasksVerb
from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.plain import to_plain
from sparse_circuits.report import write_report
from sparse_circuits.run import read_json, write_json
from sparse_circuits.subject import samples_of
from sparse_circuits.summary import print_summary, summarise
from sparse_circuits.tasks import Diagnosis, Verdict
from sparse_circuits.training.export import Trained
from sparse_circuits.walk.circuits import extract_circuits
from sparse_circuits.walk.tasks import tasks
from sparse_circuits.walk.training import train

EXAMPLE = "single_double_quote"


def quickstart(config: QuickstartVerb, console: Console) -> dict[str, Any]:
    """Walk the whole way in one run folder; a finished walk prints its summary again, an interrupted one goes on.

    Raises:
        UserError: the walk was finished with other settings, or as of its verbs.
    """
    path = config.run / "summary.json"
    settings = {name: value for name, value in to_plain(config).items() if name not in ("run", "resume")}
    if not path.exists():
        started = time.monotonic()
        trained = train(replace(config, resume=True), console)
        diagnoses = tasks(TasksVerb(run=config.run, split=Split.validation), console)
        circuits = extract_known(trained, diagnoses, config=config, console=console)
        write_report(config.run, samples=samples_of(config.run))
        found = summarise(config, diagnoses, circuits)
        write_json(path, {"seconds": time.monotonic() - started, "settings": settings, **found})
    summary = read_json(path)
    before = summary.get("settings", {})
    if changed := [name for name, value in settings.items() if before.get(name) != value]:
        raise UserError(
            f"{config.run} was walked with other settings ({', '.join(changed)}): give those, or choose another run folder."
        )
    print_summary(summary, console)
    says = f"{summary['seconds']:.0f} seconds; report: {config.run / 'report.html'}"
    console.print(says, soft_wrap=True, markup=False)
    return summary


def extract_known(
    trained: Trained, diagnoses: Sequence[Diagnosis], *, config: QuickstartVerb, console: Console
) -> dict[str, Circuit]:
    """Extract circuits for the tasks that the model knows, the example first, then the best known, up to `n_circuits`."""
    known = [diagnosis for diagnosis in diagnoses if diagnosis.verdict is Verdict.known]
    known.sort(key=lambda diagnosis: (diagnosis.task != EXAMPLE, diagnosis.evaluation.loss))
    chosen = [diagnosis.task for diagnosis in known[: config.n_circuits]]
    verb = ExtractVerb(run=config.run, tasks=chosen, extract=config.extract, keep_going=True)
    return {circuit.task.name: circuit for circuit in extract_circuits(verb, console)}
