"""Which of a sparse model's changed weights carry a behaviour, where it is known which were changed for it?

    python -m experiments.diff_circuits --tasks with_open while_return_true final_kwarg for_while

A finetune under the base's own budget of nonzeros learns to answer a task the wrong way round. It moves nearly every weight, so
of its change only a diff circuit is planted: then it is known which weights carry the behaviour. The whole finetune of another
task is added, and the fewest weights that carry the first behaviour are looked for again. A cell is a planted task with its
neighbour in the list.
"""

from __future__ import annotations

import argparse
import random
from functools import partial
from pathlib import Path

from experiments.cells import RESULTS, Cells, means
from sparse_circuits.conf.verbs import DEFAULT_RUN
from sparse_circuits.data.words import Split
from sparse_circuits.diffs.diff_circuit import DiffCircuit, DiffCircuitConfig, find_diff_circuit
from sparse_circuits.diffs.entries import agreement
from sparse_circuits.diffs.lessons import Aim, Lesson
from sparse_circuits.diffs.support import Fate, count_fates
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.diffs.whole import finetune_whole
from sparse_circuits.subject import Subject, subject_of
from sparse_circuits.tasks import TASKS
from sparse_circuits.tasks.encode import draw_pairs

N_STEPS, N_LESSONS = 150, 24
KEPT = 3.0
"""Weight of answering other tasks as before."""
OTHERS = ("single_double_quote", "if_equals", "indent_for", "lambda_func")


def swapped(subject: Subject, task: str, split: Split, *, n_pairs: int, seed: int, aim: Aim = Aim.give) -> list[Lesson]:
    """Return prompts of a task with the other answer."""
    pairs = draw_pairs(
        TASKS[task], subject.tokenizer, split=split, n_pairs=n_pairs, seed=seed, max_tokens=subject.model.config.n_ctx
    )
    found = []
    for pair in pairs.encoded:
        found.append(Lesson(list(pair.positive), [pair.negative_answer], aim, KEPT if aim is Aim.keep else 1.0))
        found.append(Lesson(list(pair.negative), [pair.positive_answer], aim, KEPT if aim is Aim.keep else 1.0))
    return found


def planted(subject: Subject, task: str, *, seed: int) -> WeightDiff:
    """Return the finetune that answers a task the wrong way round, and other tasks as before."""
    own = swapped(subject, task, Split.train, n_pairs=128, seed=seed)
    kept = [each for other in OTHERS for each in swapped(subject, other, Split.train, n_pairs=32, seed=seed, aim=Aim.keep)]

    def lessons(step: int) -> list[Lesson]:
        rng = random.Random(f"{task} {seed} {step}")
        return rng.sample(own, N_LESSONS // 2) + rng.sample(kept, N_LESSONS // 2)

    base = subject.means().model_hash
    return finetune_whole(subject.model, lessons, base=base, n_steps=N_STEPS, is_sparse=True, about={"task": task})


def measure(subject: Subject, task: str, other: str, *, seed: int) -> dict[str, object]:
    """Return what is planted, and what is found of it under the change of another finetune."""
    config = DiffCircuitConfig(seed=seed)
    finetuned, noise = (planted(subject, each, seed=seed) for each in (task, other))
    first = find_diff_circuit(subject.model, finetuned, **examples(subject, task, seed=seed + 1), config=config)
    truth, whole = first.kept, first.kept + noise
    found = find_diff_circuit(subject.model, whole, **examples(subject, task, seed=seed + 2), config=config)
    same = agreement(found.kept, truth)
    fates = count_fates(subject.model, truth).values()
    return {
        "finetune": numbers(first),
        "planted": {fate.name: sum(counts[fate] for counts in fates) for fate in Fate},
        "found": numbers(found),
        "precision": same.precision,
        "recall": same.recall,
        "chance": agreement(whole, truth).precision,
    }


def examples(subject: Subject, task: str, *, seed: int) -> dict[str, list[Lesson]]:
    """Return what masks are learned on, sizes chosen on and cards read off."""
    parts = {"train": Split.train, "validation": Split.validation, "held_out": Split.held_out}
    return {name: swapped(subject, task, split, n_pairs=64, seed=seed) for name, split in parts.items()}


def numbers(found: DiffCircuit) -> dict[str, float]:
    """Return a diff circuit's card."""
    return {name: value for name, value in vars(found).items() if name != "kept"} | {
        "recovers": found.recovers,
        "needed": found.needed,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="pretrained:python-3x128")
    parser.add_argument("--tasks", nargs="+", default=["with_open", "while_return_true", "final_kwarg", "for_while"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "diff_circuits.jsonl")
    options = parser.parse_args()
    cells, subject = Cells(options.out), subject_of(DEFAULT_RUN, options.checkpoint)
    rows = [
        cells.run(partial(measure, subject, task, other, seed=seed), task=task, other=other, seed=seed)
        for seed in range(options.seeds)
        for task, other in zip(options.tasks, options.tasks[1:] + options.tasks[:1], strict=True)
    ]
    print(means(rows))


if __name__ == "__main__":
    main()
