"""A corpus, ready to train on: built once, then found again by the hash of what it was made of.

The key is made of the configuration and of each source's fingerprint (the Python version, the files' sizes and times,
the generator's code), so changed sources are prepared anew; a data set of the hub without `revision` stays the newest of the
day when it was first prepared. One process builds while the others wait for it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sparse_circuits.data.manifest import open_train, open_validation
from sparse_circuits.data.mixture import DataConfig, build
from sparse_circuits.data.pack import Packed
from sparse_circuits.data.sources import Source, open_source
from sparse_circuits.data.tokenizer import SPLIT_PATTERN, Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.run import read_json, replacing

FORMAT = 1  # raised when the same configuration would be packed into other tokens


@dataclass(frozen=True)
class Dataset:
    """The two splits, their vocabulary, and what they are made of."""

    tokenizer: Tokenizer
    train: Packed
    validation: Packed
    manifest: dict[str, Any]
    folder: Path

    @property
    def hash(self) -> str:
        """Hex SHA-256 of the vocabulary and every token."""
        return self.manifest["hash"]


def prepare(config: DataConfig) -> Dataset:
    """Open the prepared data of `config`, building them first when they are not there.

    Raises:
        UserError: a source cannot be read or is empty, or a prepared file is damaged.
    """
    sources = [open_source(source, seed=config.seed) for source in config.sources]
    folder = config.folder / cache_key(config, sources)
    if not folder.exists():
        with _one_at_a_time(folder):
            if not folder.exists():
                with replacing(folder) as unfinished:
                    build(config, sources, unfinished)
    return open_dataset(folder)


def open_dataset(folder: Path) -> Dataset:
    """Open a prepared folder, checking every file against the manifest.

    Raises:
        UserError: a file is missing or damaged.
    """
    manifest = read_json(folder / "manifest.json")
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    if tokenizer.hash != manifest["tokenizer"]["hash"]:
        raise UserError(f"{folder}/tokenizer.json is not the manifest's: delete {folder} to have it prepared again.")
    return Dataset(
        tokenizer=tokenizer,
        train=open_train(folder, manifest),
        validation=open_validation(folder, manifest),
        manifest=manifest,
        folder=folder,
    )


def check_corpus(folder: Path, dataset: Dataset) -> None:
    """Refuse a corpus that is not the one of the run folder, whose vocabulary its model reads.

    Raises:
        UserError: `data.json` of the folder tells of another.
    """
    known = folder / "data.json"
    if known.exists() and read_json(known)["hash"] != dataset.hash:
        raise UserError(
            f"The sources now give another corpus than {folder} was begun with (a changed file, another Python, another"
            " version of sparse_circuits): restore them, or train into another run folder."
        )


def cache_key(config: DataConfig, sources: Sequence[Source]) -> str:
    """Return the name of the folder that holds what `config` and the present content of its sources give."""
    parts = {
        "format": FORMAT,
        "split_pattern": SPLIT_PATTERN,
        "config": asdict(config) | {"folder": None},
        "tokenizer": Tokenizer.load(config.tokenizer).hash if config.tokenizer else None,
        "sources": [source.fingerprint() for source in sources],
    }
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Hold a lock that the system frees even when the process is killed."""
    lock = folder.with_suffix(".lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        raise UserError(f"Could not write {folder.parent} ({error.strerror}): choose another data folder.") from error
    with open(lock) as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
