"""A narrow bridge is trained on the prompts of a family of tasks alone (Gao et al. 2025, section 4, on safety cases).

What the two models do elsewhere need not agree, so less of the sparse model's room is asked for.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from sparse_circuits.data import DataConfig, SourceConfig, SourceKind
from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.run import replacing
from sparse_circuits.tasks import Task
from sparse_circuits.tasks.encode import raw_pairs

N_PAIRS = 20_000


def task_family(config: DataConfig, tasks: Sequence[Task], folder: Path) -> DataConfig:
    """Return a corpus of the prompts of some tasks, each with its answer, written to the run folder.

    Args:
        config: whose other settings stay.
        tasks: of the training split's words; equally many prompts each.

    Raises:
        UserError: there are no tasks.
    """
    if not tasks:
        raise UserError("A narrow bridge needs a task family: name at least one task.")
    # Named by what it holds: a refused run must not leave its prompts to the next.
    names = json.dumps([*(task.name for task in tasks), config.seed, N_PAIRS])
    path = folder / f"task_family_{hashlib.sha256(names.encode()).hexdigest()[:8]}.jsonl"
    if not path.exists():
        draws = [islice(raw_pairs(task, split=Split.train, seed=config.seed), N_PAIRS) for task in tasks]
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for pair in chain.from_iterable(zip(*draws, strict=True)):
                for text in (pair.positive + pair.positive_answer, pair.negative + pair.negative_answer):
                    file.write(json.dumps({"text": f"{text}\n"}) + "\n")
    source = SourceConfig(SourceKind.files, paths=[str(path)], name="task_family", licence="generated")
    return replace(config, sources=[source])
