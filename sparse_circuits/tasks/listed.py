"""A task whose pairs are listed, not generated: read from a user's JSONL file or mined from a corpus.

One line is one pair: {"pos": ..., "neg": ..., "pos_answer": ..., "neg_answer": ...}, and optionally "split" (train,
validation or held_out). Lines without a split are dealt out by fifths: three to train, one to validation, one to held_out.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_circuits.data.files import read_rows
from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError, nearest
from sparse_circuits.run import replacing
from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Scoring, Task

KEYS = ("pos", "neg", "pos_answer", "neg_answer")
DEALT = (Split.train, Split.train, Split.train, Split.validation, Split.held_out)

Listed = Mapping[Split, Sequence[Pair]]


def dealt_split(index: int) -> Split:
    """Return the split of the index-th pair (or document), such that adding more at the end moves none."""
    return DEALT[index % len(DEALT)]


def listed_task(name: str, pairs: Listed, *, summary: str, scoring: Scoring = Scoring.pair) -> Task:
    """Return a task that draws from listed pairs."""

    def generate(draw: Draw) -> Pair:
        if not pairs[draw.split]:
            raise UserError(f'Task "{name}" lists no {draw.split.name} pairs: list more pairs, or mark some with this split.')
        return draw.choice(pairs[draw.split])

    return Task(name, summary, generate, scoring)


def load_pairs(path: Path, *, scoring: Scoring = Scoring.pair) -> Task:
    """Read a task from a JSONL file of pairs; its name is the file's.

    Raises:
        UserError: the file is missing or empty, or a line is no pair; names the line.
    """
    path = Path(path)
    rows = [_checked(row, where=where) for where, row in read_rows(path)]
    if not rows:
        raise UserError(f'{path} lists no pairs: write one {{"pos", "neg", "pos_answer", "neg_answer"}} object a line.')
    pairs: dict[Split, list[Pair]] = {split: [] for split in Split}
    for index, row in enumerate(rows):
        split = Split[row["split"]] if "split" in row else dealt_split(index)
        pairs[split].append(Pair(*(row[key] for key in KEYS), fillers=()))
    return listed_task(path.stem, pairs, summary=f"{len(rows)} pairs listed in {path.name}", scoring=scoring)


def _checked(row: dict[str, Any], *, where: str) -> dict[str, Any]:
    wrong = [key for key in KEYS if not (isinstance(row.get(key), str) and row[key])]
    if wrong:
        raise UserError(f"{where} lacks {', '.join(wrong)}: give {', '.join(KEYS)}, each a text that is not empty.")
    splits = [split.name for split in Split]
    if "split" in row and row["split"] not in splits:
        known = ", ".join(splits)
        raise UserError(f'{where} has the split "{row["split"]}"{nearest(str(row["split"]), splits)}: use {known}.')
    return row


def save_pairs(path: Path, pairs: Listed) -> None:
    """Write pairs, each with its split, in the format that `load_pairs` reads."""
    rows = [
        {**dict(zip(KEYS, pair[: len(KEYS)], strict=True)), "split": split.name}
        for split, listed in pairs.items()
        for pair in listed
    ]
    with replacing(Path(path)) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
