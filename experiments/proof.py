"""For every task that a model knows and for every objective: a circuit, its card, and the table of sizes.

    python -m experiments.proof --checkpoint pretrained:NAME --budget standard

A cell is one extraction. Circuits and the trials of tuning go to runs/proof/NAME, numbers to experiments/results/proof.jsonl.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from experiments.cells import Cells, circuits_folder, study_parser
from sparse_circuits.circuits import Budget, Circuit, ExtractConfig, MaskConfig, Objective, TuneConfig, extract
from sparse_circuits.circuits.evidence.faithfulness import RATES
from sparse_circuits.circuits.norms import Norms
from sparse_circuits.conf.verbs import DEFAULT_RUN
from sparse_circuits.errors import UserError
from sparse_circuits.subject import Subject, bigram_of, subject_of
from sparse_circuits.tasks import TASKS, Split, Verdict, examine


def masks_for(objective: Objective) -> MaskConfig:
    """Return the masks of an objective; the paper's goes with the paper's norms."""
    return MaskConfig(objective=objective, norms=Norms.free if objective is Objective.full else Norms.both)


def known_tasks(subject: Subject) -> list[str]:
    """Return the tasks that the model knows on validation pairs and its bigram table does not."""
    model = subject.model
    diagnoses = examine(
        list(TASKS.values()),
        subject.tokenizer,
        model=model,
        bigram=bigram_of(model),
        split=Split.validation,
        max_tokens=model.config.n_ctx,
    )
    return [diagnosis.task for diagnosis in diagnoses if diagnosis.verdict is Verdict.known]


def numbers(circuit: Circuit) -> dict[str, Any]:
    """Return what is kept of a circuit's card."""
    card = circuit.card
    return {
        "n_nodes": card.n_nodes,
        "n_edges": card.n_edges,
        "verdict": card.verdict,
        "backups": card.backups,
        "checks": {check.name: [check.loss, check.low, check.high] for check in card.checks},
    }


def prove(subject: Subject, task: str, objective: Objective, *, budget: Budget, seed: int, folder: Path) -> dict[str, Any]:
    """Extract one circuit and return its numbers; where none is found, why."""
    name = f"{task}-{objective.name}-{seed}"
    config = ExtractConfig(masks=masks_for(objective), tune=TuneConfig(budget=budget), seed=seed)
    try:
        circuit = extract(
            subject.model, TASKS[task], subject.tokenizer, subject.means(), config=config, storage=folder / f"{name}.sqlite"
        )
    except UserError as error:
        return {"error": str(error)}
    circuit.save(folder / f"{name}.safetensors")
    return numbers(circuit)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the sizes of circuits by task and objective, with what holds, and their geometric means."""
    found = {(row["task"], row["objective"]): row for row in rows if row["seed"] == 0 and "n_edges" in row}
    tasks, objectives = (list(dict.fromkeys(key[place] for key in found)) for place in (0, 1))
    lines = ["| task | " + " | ".join(f"{objective}: nodes, edges, verdict" for objective in objectives) + " |"]
    lines.append("| --- " * (1 + len(objectives)) + "|")
    for task in tasks:
        cells = [found.get((task, objective)) for objective in objectives]
        says = [f"{cell['n_nodes']}, {cell['n_edges']}, {cell['verdict']}" if cell else "none" for cell in cells]
        lines.append(f"| {task} | {' | '.join(says)} |")
    complete = [task for task in tasks if all((task, objective) in found for objective in objectives)]
    means = [geometric_mean(max(1, found[task, objective]["n_edges"]) for task in complete) for objective in objectives]
    lines.append(f"| edges, geometric mean of {len(complete)} | {' | '.join(f'{mean:.1f}' for mean in means)} |")
    return "\n".join(lines)


def faithfulness(rows: Sequence[dict[str, Any]], objective: Objective) -> str:
    """Return how each circuit of one objective does under partial ablation at every rate, its necessity and its backups."""
    rates = [f"partial_{rate}" for rate in RATES]
    lines = [f"| task | {' | '.join(rates)} | frozen_norms | necessity | backups |", "| --- " * (len(rates) + 4) + "|"]
    for row in rows:
        if row["objective"] == objective.name and row["seed"] == 0 and "checks" in row:
            losses = [f"{row['checks'][name][0]:.3f}" for name in (*rates, "frozen_norms", "necessity")]
            lines.append(f"| {row['task']} | {' | '.join(losses)} | {', '.join(row['backups'])} |")
    return "\n".join(lines)


def main() -> None:
    parser = study_parser(__doc__, study="proof", objectives=["partial", "full", "adversarial"])
    parser.add_argument("--budget", default="standard", choices=Budget.__members__)
    options = parser.parse_args()
    subject = subject_of(DEFAULT_RUN, options.checkpoint)
    cells, folder = Cells(options.out), circuits_folder("proof", options.checkpoint)
    folder.mkdir(parents=True, exist_ok=True)
    tasks = options.tasks or known_tasks(subject)
    study = {"checkpoint": options.checkpoint, "budget": options.budget}
    for objective in map(Objective.__getitem__, options.objectives):
        for seed in range(options.seeds):
            for task in tasks:
                work = partial(prove, subject, task, objective, budget=Budget[options.budget], seed=seed, folder=folder)
                cells.run(work, task=task, objective=objective.name, seed=seed, **study)
    rows = cells.select(**study)
    print(table(rows))
    print(faithfulness(rows, Objective.partial))


if __name__ == "__main__":
    main()
