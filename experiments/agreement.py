"""Do searches with other seeds find the same circuit? Overlap of a task's circuits, beside that of different tasks' circuits.

    python -m experiments.agreement --checkpoint pretrained:NAME

A seed draws other pairs, other batches and another start. A cell is one pair of circuits of one model: the share of nodes and
of edges in either that is in both, and the same where a node whose activations correlate by at least 0.95 counts for the other.
Circuits go to runs/agreement/NAME, numbers to experiments/results/agreement.jsonl.
"""

from __future__ import annotations

from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.cells import Cells, circuits_folder, study_parser
from experiments.grid import SEEDED
from experiments.measures import pairs_of
from experiments.proof import masks_for
from sparse_circuits.circuits import CardConfig, Circuit, ExtractConfig, Objective, extract
from sparse_circuits.circuits.measures.agreement import agreement, functional_matching
from sparse_circuits.subject import Subject, subject_of
from sparse_circuits.tasks import TASKS

MEASURES = ("nodes", "edges", "nodes_or_twins", "edges_or_twins")


def extracted(subject: Subject, folder: Path, task: str, objective: str, seed: int) -> Circuit:
    """Return a circuit found with the quick budget, the searches for nonsense left out; one that is there is loaded."""
    path = folder / f"{task}-{objective}-{seed}.safetensors"
    if not path.exists():
        masks = masks_for(Objective[objective])
        config = ExtractConfig(masks=masks, card=CardConfig(n_controls=0), n_held_out_pairs=64, seed=seed)
        extract(subject.model, TASKS[task], subject.tokenizer, subject.means(), config=config).save(path)
    return Circuit.load(path)


def overlap(first: Circuit, second: Circuit) -> dict[str, Any]:
    """Return the Jaccard index of two circuits' nodes and edges, as they are and with twins, on the first one's prompts."""
    plain, twins = agreement(first, second), functional_matching(first, second, pairs_of(first).held_out)
    matched = agreement(first, second, matching=twins)
    overlaps = (plain.nodes, plain.edges, matched.nodes, matched.edges)
    return {name: each.jaccard for name, each in zip(MEASURES, overlaps, strict=True)}


def table(rows: list[dict[str, Any]]) -> str:
    """Return the mean overlap of every task's circuits with one another, and of different tasks' circuits."""
    lines = [f"| circuits of | pairs | {' | '.join(name.replace('_', ' ') for name in MEASURES)} |", "| --- " * 6 + "|"]
    for name in [*dict.fromkeys(row["first"] for row in rows), "different tasks"]:
        own = [row for row in rows if (row["first"] if row["first"] == row["second"] else "different tasks") == name]
        if own:
            values = " | ".join(f"{mean(row[measure] for row in own):.2f}" for measure in MEASURES)
            lines.append(f"| {name} | {len(own)} | {values} |")
    return "\n".join(lines)


def main() -> None:
    parser = study_parser(__doc__, study="agreement", objectives=["partial"])
    parser.set_defaults(tasks=SEEDED, seeds=3)
    options = parser.parse_args()
    cells, folder = Cells(options.out), circuits_folder("agreement", options.checkpoint)
    subject = subject_of(folder, options.checkpoint)
    for objective in options.objectives:
        study = {"checkpoint": options.checkpoint, "objective": objective}
        found = {(t, s): extracted(subject, folder, t, objective, s) for t in options.tasks for s in range(options.seeds)}
        for (first, one), (second, two) in combinations(found, 2):
            work = partial(overlap, found[first, one], found[second, two])
            cells.run(work, **study, first=first, second=second, seeds=[one, two])
        print(table(cells.select(**study)))


if __name__ == "__main__":
    main()
