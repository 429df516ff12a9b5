"""A study's results: one JSON line for every finished cell, so that what is there is not run again."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from sparse_circuits.circuits import Objective
from sparse_circuits.subject import PRETRAINED

RESULTS = Path(__file__).parent / "results"


def study_parser(about: str, *, study: str, objectives: Sequence[str]) -> argparse.ArgumentParser:
    """Return the arguments that studies of one model's tasks and objectives have in common.

    Args:
        about: the study's docstring, whose first line is shown.
        study: its name, which its results are kept under.
        objectives: the ones to run, unless told otherwise.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="pretrained:NAME or a run folder")
    parser.add_argument("--tasks", nargs="+", help="those the model knows, unless given")
    parser.add_argument("--objectives", nargs="+", default=objectives, choices=Objective.__members__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / f"{study}.jsonl")
    return parser


def circuits_folder(study: str, checkpoint: str) -> Path:
    """Return where a study keeps its circuits of a model."""
    return Path("runs") / study / Path(checkpoint.removeprefix(PRETRAINED)).name


class Cells:
    """The finished cells of a study.

    Args:
        path: a file of one JSON object a line, made with the first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def select(self, **key: Any) -> list[dict[str, Any]]:
        """Return the finished cells that have these values."""
        return [row for row in self.rows if key.items() <= row.items()]

    def run(self, work: Callable[[], dict[str, Any]], **key: Any) -> dict[str, Any]:
        """Return the finished cell of this key; where there is none, do the work, add its key and seconds, and keep it."""
        if found := self.select(**key):
            return found[0]
        started = time.monotonic()
        row = {**key, **work(), "seconds": round(time.monotonic() - started, 1)}
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row)[:300], flush=True)
        return row


def run_by_seed(measure: Callable[[int], dict[str, Any]], about: str, *, study: str) -> None:
    """Run a study whose cells are seeds, from the command line, and print its means over them.

    Seeds run at once, each in a process of one thread: toys are too small for more.

    Args:
        measure: from a seed to its cell; a function of the study's module.
        about: the study's docstring, whose first line is shown.
        study: its name, which its results are kept under.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS / f"{study}.jsonl")
    options = parser.parse_args()
    with ProcessPoolExecutor(len(options.seeds), get_context("spawn"), torch.set_num_threads, (1,)) as processes:
        print(means(list(processes.map(partial(run_seed, measure, options.out), options.seeds))))


def run_seed(measure: Callable[[int], dict[str, Any]], path: Path, seed: int) -> dict[str, Any]:
    """Return one seed's cell, run where the file has none."""
    return Cells(path).run(partial(measure, seed), seed=seed)


def means(rows: Sequence[dict[str, Any]]) -> str:
    """Return a line for every number that all rows have: where it stands in them, its mean, and each row's."""
    flat = [dict(leaves(json.loads(json.dumps(row)))) for row in rows]  # as a file keeps them, whose keys are strings
    lines = []
    for name in flat[0]:
        if all(name in row for row in flat):
            each = [row[name] for row in flat]
            lines.append(f"{name:45} {mean(each):8.3f}   {'  '.join(f'{value:.3f}' for value in each)}")
    return "\n".join(lines)


def leaves(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """Yield the numbers in a nested value, with the keys that lead there."""
    if isinstance(value, (bool, int, float)):
        yield place, float(value)
    elif isinstance(value, (dict, list)):
        for key, own in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(own, f"{place}.{key}".lstrip("."))
