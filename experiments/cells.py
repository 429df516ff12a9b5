"""A study's results: one JSON line for every finished cell, so that what is there is not run again."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sparse_circuits.circuits import Objective

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
    """Run a study whose cells are seeds, from the command line.

    Args:
        measure: from a seed to its cell.
        about: the study's docstring, whose first line is shown.
        study: its name, which its results are kept under.
    """
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=RESULTS / f"{study}.jsonl")
    options = parser.parse_args()
    cells = Cells(options.out)
    for seed in options.seeds:
        cells.run(partial(measure, seed), seed=seed)
