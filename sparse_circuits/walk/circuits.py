"""Circuits: found, attacked, written in other formats."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from sparse_circuits.circuits import Circuit, Means, extract
from sparse_circuits.circuits.attacks.attack import run_attack
from sparse_circuits.circuits.attacks.report import AttackReport, attack_table, attack_text
from sparse_circuits.conf.verbs import AttackVerb, ExportVerb, ExtractVerb
from sparse_circuits.errors import UserError
from sparse_circuits.interop import Format, export
from sparse_circuits.plain import to_plain
from sparse_circuits.run import write_json
from sparse_circuits.subject import circuit_path, subject_of
from sparse_circuits.summary import card_numbers, circuit_table, print_aside, print_verdicts
from sparse_circuits.walk.tasks import find_tasks, tasks_with_circuit


def extract_circuits(config: ExtractVerb, console: Console) -> list[Circuit]:
    """Extract the circuits of tasks; with keep_going, one that cannot be extracted is named with the reason and left out."""
    subject = subject_of(config.run, config.checkpoint)
    means = subject.means()
    circuits = []
    for task in find_tasks(_named(config)):
        path = circuit_path(subject.folder, task.name)
        try:
            if config.overwrite or not path.exists():
                console.print(f"extracting {task.name} ...", markup=False)
                storage = subject.folder / "tuning" / f"{task.name}.sqlite"
                extract(subject.model, task, subject.tokenizer, means, config=config.extract, storage=storage).save(path)
                circuits.append(Circuit.load(path))
            else:
                circuits.append(_earlier(path, means, console))
        except UserError as error:
            if not config.keep_going:
                raise
            print_aside(error, console)
    rows = [{"name": circuit.task.name, **card_numbers(circuit)} for circuit in circuits]
    console.print(circuit_table(rows))
    print_verdicts(rows, console)
    return circuits


def _named(config: ExtractVerb | AttackVerb | ExportVerb) -> list[str]:
    return [config.task] if config.task else config.tasks


def _earlier(path: Path, means: Means, console: Console) -> Circuit:
    """Load a circuit that was extracted before, and say so: its settings may be others than those asked for."""
    circuit = Circuit.load(path)
    if circuit.model_hash != means.model_hash:
        raise UserError(f"{path} is a circuit of another model than the run's: overwrite=true extracts it from this one.")
    budget, masks = circuit.recipe["tune"]["budget"], circuit.recipe["masks"]
    told = f"{path} is there already (budget={budget}, objective={masks['objective']}): overwrite=true extracts it again."
    print_aside(told, console)
    return circuit


def attack(config: AttackVerb, console: Console) -> list[AttackReport]:
    """Attack a run's model with its circuits, and print and keep what came of it."""
    reports = []
    for task in tasks_with_circuit(config.run, _named(config)):
        found = run_attack(Circuit.load(circuit_path(config.run, task.name)), task, config=config.attack)
        write_json(config.run / "attacks" / f"{task.name}.json", to_plain(found))
        console.print(attack_table(found))
        console.print(attack_text(found), markup=False, highlight=False, soft_wrap=True)
        reports.append(found)
    return reports


def export_circuits(config: ExportVerb, console: Console) -> list[Path]:
    """Write a run's circuits in another format, and print where they are."""
    names = {Format.python: "{}.py", Format.circuit_tracer: "circuit_tracer/{}.json"}
    written = []
    for task in tasks_with_circuit(config.run, _named(config)):
        path = config.run / "exports" / names.get(config.to, f"{{}}.{config.to.name}").format(task.name)
        written += export(Circuit.load(circuit_path(config.run, task.name)), config.to, path)
    written = list(dict.fromkeys(written))
    console.print("\n".join(map(str, written)), soft_wrap=True, markup=False)
    return written
