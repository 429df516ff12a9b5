"""Which objective finds circuits for what a model does, and none for what it does not?

    python -m experiments.faithful --checkpoint pretrained:NAME --budget standard

Every trial is the same search up to the ranking of nodes, tuned for itself as the budget has it, with the knowledge gate off:
on the real task, with all answers swapped, with answers swapped by a coin for half of the families of prompts, and on the real
task in a model of shuffled weights. Each takes as many of its best nodes as the real task needed under this objective. A cell
is one trial.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

from experiments.cells import Cells, study_parser
from experiments.proof import known_tasks, masks_for
from sparse_circuits.circuits import Budget, ExtractConfig, Objective, TuneConfig
from sparse_circuits.circuits.card import Control
from sparse_circuits.circuits.discovery.search import Search
from sparse_circuits.circuits.discovery.tune import candidates
from sparse_circuits.circuits.evidence.controls import nonsense
from sparse_circuits.circuits.evidence.faithfulness import FAILING, SUFFICIENT, equal_size, top_margins
from sparse_circuits.circuits.extract import prepare_search
from sparse_circuits.circuits.margin import score
from sparse_circuits.conf.verbs import DEFAULT_RUN
from sparse_circuits.subject import Subject, subject_of
from sparse_circuits.tasks import find_task

REAL = "real"
N_VALIDATION_PAIRS = 128
"""With every budget, so that they differ in tuning alone."""


def tuned(search: Search, budget: Budget) -> Search:
    """Return the search with the masks that reached the target with the fewest edges."""
    return search.with_masks(next(candidates(search, TuneConfig(budget=budget))))


def real_trial(real: Search, *, budget: Budget) -> dict[str, Any]:
    """Return how many nodes the real task needs, all where none do, and the loss of as many."""
    search = tuned(real, budget)
    mask = search.learn_nodes()
    found = search.discretise_nodes(mask, start=int((mask > 0).sum()), n_below=0)
    n_nodes = int(found.kept.sum()) if found else len(mask)
    return {"n_nodes": n_nodes, "loss": score(top_margins(search, mask, n_nodes)).loss}


def trial(search: Search, n_nodes: int, *, budget: Budget) -> dict[str, Any]:
    """Return the held-out loss of a search's best nodes."""
    return {"n_nodes": n_nodes, "loss": score(equal_size(tuned(search, budget), n_nodes)).loss}


def run(
    subject: Subject, cells: Cells, study: dict[str, str], *, task: str, objective: Objective, kinds: Sequence[str], seed: int
) -> None:
    """Run the trials of one task that are not done, the real one and these kinds, each at the size of the real one."""
    config = ExtractConfig(masks=masks_for(objective), knowledge_gate=False, n_validation_pairs=N_VALIDATION_PAIRS, seed=seed)
    real = prepare_search(subject.model, find_task(task), subject.tokenizer, subject.means(), config=config)
    key, budget = {"task": task, "objective": objective.name, "seed": seed, **study}, Budget[study["budget"]]
    n_nodes = cells.run(partial(real_trial, real, budget=budget), kind=REAL, **key)["n_nodes"]
    searches = nonsense(real, subject.tokenizer, n_controls=1)
    for kind in kinds:
        (search,) = searches[Control[kind]]
        cells.run(partial(trial, search, n_nodes, budget=budget), kind=kind, **key)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return, for every objective and kind of trial, how many ended under each bound."""
    losses = defaultdict(list)
    for row in rows:
        losses[row["objective"], row["kind"]].append(row["loss"])
    lines = [f"| objective | trial | trials | under {FAILING} | under {SUFFICIENT} | mean loss |", "| --- " * 6 + "|"]
    for (objective, kind), values in losses.items():
        under = " | ".join(str(sum(value < bound for value in values)) for bound in (FAILING, SUFFICIENT))
        lines.append(f"| {objective} | {kind} | {len(values)} | {under} | {sum(values) / len(values):.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = study_parser(__doc__, study="faithful", objectives=list(Objective.__members__))
    parser.add_argument("--budget", default="standard", choices=Budget.__members__)
    kinds = list(Control.__members__)
    parser.add_argument("--kinds", nargs="+", default=kinds, choices=kinds, help="of searches that must fail")
    options = parser.parse_args()
    study = {"checkpoint": options.checkpoint, "budget": options.budget}
    subject, cells = subject_of(DEFAULT_RUN, options.checkpoint), Cells(options.out)
    for seed in range(options.seeds):
        for objective in map(Objective.__getitem__, options.objectives):
            for task in options.tasks or known_tasks(subject):
                run(subject, cells, study, task=task, objective=objective, kinds=options.kinds, seed=seed)
    print(table(cells.select(**study)))


if __name__ == "__main__":
    main()
