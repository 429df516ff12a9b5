"""The numbers of a walk, as they are kept and as they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sparse_circuits.circuits import Circuit
from sparse_circuits.conf.verbs import QuickstartVerb
from sparse_circuits.run import read_json
from sparse_circuits.tasks import Diagnosis, Verdict

HEADERS = {
    "name": "task",
    "accuracy": "accuracy",
    "loss": "loss",
    "n_nodes": "nodes",
    "n_edges": "edges",
    "circuit_loss": "circuit",
    "necessity_loss": "necessity",
    "random_loss": "random",
    "outside_loss": "outside",
}
"""The columns of a table of circuits; losses in nats."""

WITHOUT_CIRCUIT = {
    Verdict.known: "Known, no circuit extracted",
    Verdict.bigram: "Answered by the bigram table alone",
    Verdict.unknown: "Not known",
    Verdict.invalid: "No valid pairs with this tokenizer",
}


def summarise(config: QuickstartVerb, diagnoses: Sequence[Diagnosis], circuits: dict[str, Circuit]) -> dict[str, Any]:
    """Return the numbers of the walk: tokens, loss, L0, and of every task what is known of it."""
    model = read_json(config.run / "model.json")
    rows = []
    for diagnosis in diagnoses:
        evaluation = diagnosis.evaluation
        row = {
            "name": diagnosis.task,
            "verdict": diagnosis.verdict.name,
            "known": diagnosis.verdict is Verdict.known,
            "accuracy": evaluation.accuracy if evaluation else None,
            "loss": evaluation.loss if evaluation else None,
        }
        if diagnosis.task in circuits:
            row |= card_numbers(circuits[diagnosis.task])
        rows.append(row)
    return {
        "tokens": config.n_steps * config.tokens_per_step,
        "loss": model["validation_loss"],
        "l0": model["l0_fraction"],
        "tasks": rows,
    }


def card_numbers(circuit: Circuit) -> dict[str, int | float | str]:
    """Return the numbers of a circuit that are printed."""
    card = circuit.card
    return {
        "n_nodes": card.n_nodes,
        "n_edges": card.n_edges,
        "circuit_loss": card["circuit"].loss,
        "necessity_loss": card["necessity"].loss,
        "random_loss": card["random"].loss,
        "outside_loss": card["outside"].loss,
        "circuit_verdict": card.verdict,
    }


def print_verdicts(rows: Sequence[dict[str, Any]], console: Console) -> None:
    """Print of every circuit whether it holds, and if not, which checks fail."""
    for row in rows:
        console.print(f"{row['name']} {row['circuit_verdict']}", markup=False)


def print_aside(text: object, console: Console) -> None:
    """Print a remark, or why something was left out, word for word: what stands in brackets is text."""
    console.print(str(text), style="dim", markup=False, highlight=False, soft_wrap=True)


def circuit_table(rows: Sequence[dict[str, Any]], *, title: str = "") -> Table:
    """Return the numbers of circuits, and of the whole model where a row has them, as a table of at most 80 columns."""
    table = Table(title=title, box=SIMPLE_HEAD, padding=0, show_edge=False)
    columns = list(dict.fromkeys(key for row in rows for key in row if key in HEADERS))
    for column in columns:
        is_name = column == "name"
        table.add_column(HEADERS[column], justify="left" if is_name else "right", no_wrap=not is_name)
    for row in rows:
        table.add_row(*(f"{row[column]:.3f}" if isinstance(row[column], float) else str(row[column]) for column in columns))
    return table


def print_summary(summary: dict[str, Any], console: Console) -> None:
    """Print the walk's numbers: a table of the tasks with a circuit, if any, then what is known of the others."""
    title = f"{summary['tokens']:,} tokens, validation loss {summary['loss']:.3f}, L0 {summary['l0']:.4f}"
    with_circuit = [row for row in summary["tasks"] if "n_edges" in row]
    console.print(circuit_table(with_circuit, title=title) if with_circuit else title)
    print_verdicts(with_circuit, console)
    for verdict, says in WITHOUT_CIRCUIT.items():
        names = [row["name"] for row in summary["tasks"] if row["verdict"] == verdict.name and row not in with_circuit]
        if names:
            console.print(f"{says}: {', '.join(names)}.")
