"""How small a circuit gets at each target loss: in a sparse and a dense model, by learned masks and by attribution.

    python -m experiments.sizes --models sparse=pretrained:NAME dense=runs/dense

A cell is one ranking of a model's nodes for a task. It is discretised at every target; edges are the nonzero weights of the
model among the nodes that are kept, as the paper counts them (no edge masks, no clean-up), of the best calibrated top-k set.
Gao et al. 2025, figures 2 and 31.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from experiments.cells import RESULTS, Cells
from experiments.proof import known_tasks, masks_for
from sparse_circuits.circuits import Budget, ExtractConfig, Objective, TuneConfig
from sparse_circuits.circuits.discovery.baselines import Baseline, rank_nodes
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.extract import prepare_search
from sparse_circuits.circuits.nodes import channels_of
from sparse_circuits.conf.verbs import DEFAULT_RUN
from sparse_circuits.errors import UserError
from sparse_circuits.subject import Subject, subject_of
from sparse_circuits.tasks import TASKS

TARGETS = (0.02, 0.05, 0.1, 0.15, 0.3, 0.5)
LEARNED = "learned"
Among = Callable[[dict[str, Any]], bool]


def sizes(subject: Subject, task: str, ranking: str, *, objective: Objective, seed: int) -> dict[str, Any]:
    """Rank the nodes of a model for a task, and return how many nodes and edges reach each target; None where all do not.

    A model that knows the task on one seed's pairs may miss it by a hair on another's: then the refusal is the result.
    """
    model = subject.model
    config = ExtractConfig(masks=masks_for(objective), tune=TuneConfig(budget=Budget.standard), seed=seed)
    try:
        search = prepare_search(model, TASKS[task], subject.tokenizer, subject.means(), config=config)
    except UserError as error:
        return {"sizes": dict.fromkeys(map(str, TARGETS)), "refused": str(error)}
    if ranking == LEARNED:
        rank = search.learn_nodes()
        start = int((rank > 0).sum())
    else:
        rank = rank_nodes(Baseline[ranking], model, search.pairs.train, search.means, seed=seed)
        start = len(rank) // 8
    found: dict[str, Any] = {}
    for search.target_loss in TARGETS:
        nodes = search.discretise_nodes(rank, start=start)
        kept = nodes and channels_of(nodes.kept, model.config)
        found[str(search.target_loss)] = kept and [sum(map(len, kept.values())), len(circuit_edges(model, kept))]
    return {"sizes": found}


def ratios(rows: Sequence[dict[str, Any]], of: Among, to: Among, *, target: float) -> dict[str, float]:
    """Return for every task the edges of the first cells over those of the second, both as geometric means over seeds."""

    def edges(task: str, among: Among) -> list[int]:
        cells = [row["sizes"][str(target)] for row in rows if row["task"] == task and among(row)]
        return [cell[1] for cell in cells if cell and cell[1]]

    tasks = dict.fromkeys(row["task"] for row in rows)
    both = {task: (edges(task, of), edges(task, to)) for task in tasks}
    return {task: geometric_mean(many) / geometric_mean(few) for task, (many, few) in both.items() if many and few}


def comparisons(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield one line a comparison: its ratio of edges at every target, geometric mean over tasks."""

    def cells(model: str, ranking: str) -> Among:
        return lambda row: (row["model"], row["ranking"]) == (model, ranking)

    pairs = {"dense : sparse, learned masks": (cells("dense", LEARNED), cells("sparse", LEARNED))}
    pairs |= {f"{each.name} : learned, sparse": (cells("sparse", each.name), cells("sparse", LEARNED)) for each in Baseline}
    for name, (of, to) in pairs.items():
        for target in TARGETS:
            by_task = ratios(rows, of, to, target=target)
            if by_task:
                each = ", ".join(f"{task} {ratio:.1f}" for task, ratio in by_task.items())
                yield f"{name}, target {target}: {geometric_mean(by_task.values()):.2f} over {len(by_task)} tasks ({each})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", required=True, help="sparse=PLACE dense=PLACE: pretrained:NAME or run folders")
    parser.add_argument("--rankings", nargs="+", default=[LEARNED, *Baseline.__members__])
    parser.add_argument("--objective", default="partial", choices=Objective.__members__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "sizes.jsonl")
    options = parser.parse_args()
    cells = Cells(options.out)
    places = dict(each.split("=", 1) for each in options.models)
    subjects = {name: subject_of(DEFAULT_RUN, place) for name, place in places.items()}
    known = [set(known_tasks(subject)) for subject in subjects.values()]
    tasks = [task for task in TASKS if all(task in each for each in known)]
    for seed in range(options.seeds):
        for task in tasks:
            for name, subject in subjects.items():
                for ranking in options.rankings:
                    work = partial(sizes, subject, task, ranking, objective=Objective[options.objective], seed=seed)
                    cells.run(
                        work, model=name, place=places[name], task=task, ranking=ranking, objective=options.objective, seed=seed
                    )
    print("\n".join(comparisons([row for name in places for row in cells.select(model=name, place=places[name])])))


if __name__ == "__main__":
    main()
