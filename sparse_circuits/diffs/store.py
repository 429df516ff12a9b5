"""Many weight diffs of one base in a folder: an index of labels, splits and checksums, and a file for each.

    index.json          {base, diffs: [{file, about, split, norm, sha256}]}
    diffs/000000.safetensors, ...

The index is written after the file that it names, so that a killed process loses at most the diff in hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from sparse_circuits.diffs.weight_diff import WeightDiff, named
from sparse_circuits.errors import UserError
from sparse_circuits.plain import from_plain, to_plain
from sparse_circuits.run import read_json, sha256_file, write_json

INDEX_FILE = "index.json"


class Part(Enum):
    """What a diff is used for: to learn from, to stop by, or to be asked about."""

    train = "train"
    validation = "validation"
    test = "test"


@dataclass(frozen=True)
class Entry:
    """One diff of a store."""

    file: str
    """In the store's folder."""
    about: dict[str, Any]
    """Its labels."""
    split: Part
    norm: float
    """Frobenius norm of the whole change."""
    sha256: str
    """Of the file's bytes."""


class DiffStore:
    """A folder of diffs.

    Args:
        folder: of the store, made with the first diff.

    Raises:
        UserError: its index is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        index = read_json(self.folder / INDEX_FILE) if (self.folder / INDEX_FILE).exists() else {"base": None, "diffs": []}
        self.base: str | None = index["base"]
        self.entries = [from_plain(Entry, entry) for entry in index["diffs"]]

    def add(self, diffs: Sequence[WeightDiff], *, split: Part) -> None:
        """Write diffs and their labels.

        Raises:
            UserError: one is of another base than those that are there.
        """
        for diff in diffs:
            if self.base not in (None, diff.base):
                raise UserError(
                    f"{self.folder} holds diffs of {named(self.base)}, this one is of {named(diff.base)}: use another folder."
                )
            file = f"diffs/{len(self.entries):06}.safetensors"
            diff.save(self.folder / file)
            self.base = diff.base
            self.entries.append(Entry(file, dict(diff.about), split, diff.norm(), sha256_file(self.folder / file)))
            write_json(self.folder / INDEX_FILE, {"base": self.base, "diffs": [to_plain(entry) for entry in self.entries]})

    def load(self, *, split: Part | None = None) -> Iterator[WeightDiff]:
        """Yield diffs in order, those of one split or all.

        Raises:
            UserError: there is none, or a file is missing or not the one that was written.
        """
        chosen = [entry for entry in self.entries if split in (None, entry.split)]
        if not chosen:
            what = "no diffs" if split is None else f"no diffs to {split.name}"
            raise UserError(f"{self.folder} holds {what}: add some first.")
        yield from map(self.read, chosen)

    def read(self, entry: Entry) -> WeightDiff:
        """Return one diff.

        Raises:
            UserError: its file is missing or not the one that was written.
        """
        path = self.folder / entry.file
        if not path.is_file() or sha256_file(path) != entry.sha256:
            raise UserError(f"{path} is missing or not the file that the index names: restore it from a copy.")
        return WeightDiff.load(path)
