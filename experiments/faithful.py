"""Which objective finds circuits for what a model does, and none for what it does not?

    python -m experiments.faithful --checkpoint runs/quickstart --tasks single_double_quote var_if

Every trial is the same search up to the ranking of nodes, with the knowledge gate off: on the real task, with all answers
swapped, with answers swapped by a coin for half of the families of prompts, and on the real task in a model of shuffled
weights. A trial counts as a circuit if, on held-out pairs, as many best nodes as the real task took under this objective have a
loss under 0.5. A line of the output is one trial; what is there already is not run again.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparse_circuits.circuits import ExtractConfig, MaskConfig, Objective
from sparse_circuits.circuits.controls import coin_assigned, means_on_sample, random_weights, swapped
from sparse_circuits.circuits.extract import prepare_search
from sparse_circuits.circuits.faithfulness import FAILING, equal_size
from sparse_circuits.circuits.margin import score
from sparse_circuits.circuits.norms import Norms
from sparse_circuits.circuits.search import Search
from sparse_circuits.conf.verbs import DEFAULT_RUN
from sparse_circuits.subject import Subject, subject_of
from sparse_circuits.tasks import find_task


def trials(subject: Subject, task: str, objective: Objective, *, n_seeds: int) -> Iterator[tuple[str, Search]]:
    """Yield every trial of a task by name, the real one first."""
    # The paper's objective goes with the paper's norms.
    masks = MaskConfig(objective=objective, norms=Norms.free if objective is Objective.full else Norms.both)
    for seed in range(n_seeds):
        config = ExtractConfig(masks=masks, knowledge_gate=False, seed=seed)
        real = prepare_search(subject.model, find_task(task), subject.tokenizer, subject.means(), config=config)
        yield f"real {seed}", real
        yield f"swapped {seed}", real.on(swapped(real.pairs), seed=seed)
        yield f"coin {seed}", real.on(coin_assigned(real.pairs, subject.tokenizer, seed=seed), seed=seed)
        model = random_weights(subject.model, seed=seed)
        yield f"random weights {seed}", real.inside(model, means_on_sample(model, subject.means().sample))


def run(subject: Subject, task: str, objective: Objective, *, n_seeds: int, done: set[str], out: Path) -> None:
    """Run the trials of a task that are not done, each of them against the size of the real task of its seed."""
    n_nodes = 0
    for name, search in trials(subject, task, objective, n_seeds=n_seeds):
        key = f"{task} {objective.name} {name}"
        if key in done and not name.startswith("real"):
            continue
        if name.startswith("real"):
            found = search.nodes()
            n_nodes = int(found.kept.sum()) if found else sum(map(len, search.means.sites.values()))
            if key in done:
                continue
        loss = score(equal_size(search, n_nodes)).loss
        row = {
            "key": key,
            "task": task,
            "objective": objective.name,
            "kind": name.rsplit(" ", 1)[0],
            "n_nodes": n_nodes,
            "loss": loss,
        }
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{key}: {n_nodes} nodes, loss {loss:.3f}", flush=True)


def table(rows: list[dict[str, Any]]) -> str:
    """Return, for every objective and kind of trial, the share that ended under 0.5."""
    losses = defaultdict(list)
    for row in rows:
        losses[row["objective"], row["kind"]].append(row["loss"])
    lines = [f"| {'objective':<12} | {'trial':<14} | trials | under {FAILING} | mean loss |", "| --- | --- | --- | --- | --- |"]
    for (objective, kind), values in losses.items():
        under = sum(value < FAILING for value in values)
        lines.append(f"| {objective:<12} | {kind:<14} | {len(values)} | {under} | {sum(values) / len(values):.3f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="pretrained:NAME or a run folder")
    parser.add_argument("--tasks", nargs="+", required=True)
    parser.add_argument("--objectives", nargs="+", default=[each.name for each in Objective])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/faithful.jsonl"))
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.touch()
    subject = subject_of(DEFAULT_RUN, options.checkpoint)
    done = {json.loads(line)["key"] for line in options.out.read_text().splitlines()}
    for objective in options.objectives:
        for task in options.tasks:
            run(subject, task, Objective[objective], n_seeds=options.seeds, done=done, out=options.out)
    print(table([json.loads(line) for line in options.out.read_text().splitlines()]))


if __name__ == "__main__":
    main()
