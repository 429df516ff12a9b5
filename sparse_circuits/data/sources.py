"""The four kinds of source, each read as a stream of texts.

Files are read in an order shuffled by the seed, so that a mixture which needs part of a source takes a fair sample.
"""

from __future__ import annotations

import os
import platform
import random
import sys
import sysconfig
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sparse_circuits.data.corpus import Document, SourceConfig, SourceKind
from sparse_circuits.data.extras import require
from sparse_circuits.data.files import matching_files, read_texts, text_of
from sparse_circuits.data.idioms import idiom_documents
from sparse_circuits.errors import UserError
from sparse_circuits.run import sha256_file

SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages"}
N_IDIOM_DOCUMENTS = 10**9  # no end; the mixture stops when its share is met


class Source(ABC):
    """A stream of documents and what the manifest says of it."""

    licence = ""
    """The licence where the kind of source implies one."""
    is_endless = False
    """Whether documents are generated for as long as they are asked for."""

    def __init__(self, config: SourceConfig, *, seed: int) -> None:
        self.config = config
        self.title = config.title
        self.seed = seed

    def documents(self) -> Iterator[Document]:
        """Yield the documents that are not blank, in an order fixed by the seed."""
        texts = (text for text in self.texts() if text.strip())
        return (Document(text, self.title) for text in islice(texts, self.config.max_documents))

    def shuffled(self, paths: Sequence[Path]) -> list[Path]:
        """Return the paths in an order fixed by the seed."""
        return random.Random(self.seed).sample(paths, len(paths))

    @abstractmethod
    def origin(self) -> str:
        """Say in a few words what the documents are."""

    @abstractmethod
    def fingerprint(self) -> Any:
        """Return a JSON value that changes when the documents may have changed, without reading them."""

    @abstractmethod
    def texts(self) -> Iterator[str]:
        """Yield the texts."""


class Stdlib(Source):
    """The running interpreter's standard library."""

    licence = "PSF-2.0"

    def origin(self) -> str:
        return f"{platform.python_implementation()} {platform.python_version()} standard library without tests"

    def fingerprint(self) -> Any:
        return sys.version

    def texts(self) -> Iterator[str]:
        for path in self.shuffled(_stdlib_modules()):
            yield from read_texts(path, text_field=self.config.text_field)


class Idioms(Source):
    """Generated simple Python."""

    licence = "Apache-2.0"

    @property
    def is_endless(self) -> bool:
        return self.config.max_documents is None

    def origin(self) -> str:
        return f"procedural simple Python, seed {self.seed}"

    def fingerprint(self) -> Any:
        return [sha256_file(module) for module in sorted(Path(__file__).parent.glob("*.py"))]

    def texts(self) -> Iterator[str]:
        return idiom_documents(n_documents=N_IDIOM_DOCUMENTS, seed=self.seed)


class Files(Source):
    """Local files."""

    def origin(self) -> str:
        return " ".join(self.config.paths)

    def fingerprint(self) -> Any:
        return _stat(matching_files(self.config.paths))

    def texts(self) -> Iterator[str]:
        for path in self.shuffled(matching_files(self.config.paths)):
            yield from read_texts(path, text_field=self.config.text_field)


class Hub(Source):
    """A Hugging Face data set, streamed in its own order."""

    def origin(self) -> str:
        parts = [self.config.dataset, self.config.subset, self.config.split, self.config.revision]
        return " ".join(part for part in parts if part)

    def fingerprint(self) -> Any:
        folder = Path(self.config.dataset)
        return _stat(sorted(path for path in folder.rglob("*") if path.is_file())) if folder.is_dir() else None

    def texts(self) -> Iterator[str]:
        for row in self._rows():
            yield text_of(row, self.config.text_field, where=f"the data set {self.config.dataset}")

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        config = self.config
        datasets = require("datasets", extra="hub")
        try:
            yield from datasets.load_dataset(
                config.dataset, config.subset, split=config.split, revision=config.revision, streaming=True
            )
        except (OSError, ValueError) as error:
            raise UserError(
                f"Could not read the data set {config.dataset} ({error}): check its name and the connection."
            ) from error


SOURCES = {
    SourceKind.stdlib: Stdlib,
    SourceKind.idioms: Idioms,
    SourceKind.files: Files,
    SourceKind.hub: Hub,
}


def open_source(config: SourceConfig, *, seed: int) -> Source:
    """Return the source that `config` describes; nothing is read yet."""
    return SOURCES[config.kind](config, seed=seed)


def _stdlib_modules() -> list[Path]:
    modules: list[Path] = []
    for folder, subfolders, names in os.walk(sysconfig.get_path("stdlib")):
        subfolders[:] = set(subfolders) - SKIPPED_FOLDERS  # os.walk goes into what is left here
        modules += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(modules)


def _stat(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    return [(str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
