"""What a corpus is made of: sources, of a closed set of kinds, that give documents.

stdlib   the running interpreter's standard library without its tests: real code that is always there
idioms   generated simple Python without end, the stand-in for the simple half of the paper's corpus
files    local .py, .txt, .jsonl, .parquet
hub      a Hugging Face data set, streamed
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field, fields
from enum import Enum
from functools import cached_property

from sparse_circuits.errors import UserError, nearest


class SourceKind(Enum):
    """The kinds of source."""

    stdlib = "stdlib"
    idioms = "idioms"
    files = "files"
    hub = "hub"


OWN_FIELDS = {
    SourceKind.stdlib: set(),
    SourceKind.idioms: set(),
    SourceKind.files: {"paths", "text_field"},
    SourceKind.hub: {"dataset", "subset", "split", "revision", "text_field"},
}


@dataclass(frozen=True)
class SourceConfig:
    """One source of the mixture."""

    kind: SourceKind
    """Where the documents come from: stdlib, idioms, files or hub."""
    weight: float = 1.0
    """Share of the training tokens, relative to the other sources' weights."""
    name: str = ""
    """What the manifest and the files call the source; empty: its kind."""
    licence: str = ""
    """Licence noted in the manifest; empty: the source's own where it is known."""
    max_documents: int | None = None
    """Read no more documents than this; hub needs it."""
    paths: list[str] = field(default_factory=list)
    """files: globs of .py, .txt, .jsonl or .parquet files; `**` goes through folders."""
    text_field: str = "text"
    """files, hub: the field of a row that holds the text."""
    dataset: str = ""
    """hub: the data set's name, or a local folder of data files."""
    subset: str | None = None
    """hub: the data set's configuration."""
    split: str = "train"
    """hub: the data set's split to read; ours is made afterwards, by document."""
    revision: str | None = None
    """hub: commit or tag; without it the newest."""

    def __post_init__(self) -> None:
        if not isinstance(self.kind, SourceKind):
            kinds = [kind.name for kind in SourceKind]
            raise UserError(f'Unknown source kind "{self.kind}"{nearest(str(self.kind), kinds)}: use {", ".join(kinds)}.')
        if not re.fullmatch(r"[\w-]+", self.title):
            raise UserError(f'The source name "{self.name}" becomes a file name: use letters, digits, - and _.')
        if not 0 < self.weight < float("inf"):
            raise UserError(f"The weight of the source {self.title} is {self.weight}: give a positive number.")
        if self.max_documents is not None and self.max_documents < 1:
            raise UserError(f"max_documents of the source {self.title} is {self.max_documents}: give at least 1.")
        self._check_own_fields()

    @property
    def title(self) -> str:
        """The name, or the kind where no name is given."""
        return self.name or self.kind.name

    def _check_own_fields(self) -> None:
        foreign = set().union(*OWN_FIELDS.values()) - OWN_FIELDS[self.kind]
        for option in fields(self):
            if option.name in foreign and getattr(self, option.name) not in (option.default, []):
                raise UserError(f"A source of kind {self.kind.name} has no option {option.name}: leave it out.")
        if self.kind is SourceKind.files and not self.paths:
            raise UserError("A source of kind files needs paths: give at least one glob.")
        if self.kind is SourceKind.hub and not (self.dataset and self.max_documents):
            raise UserError("A source of kind hub needs dataset and max_documents: give both.")


@dataclass(frozen=True)
class Document:
    """One text, the unit that is de-duplicated and split."""

    text: str
    source: str
    """Title of the source it came from."""

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the text with every run of white space made one space."""
        try:
            return hashlib.sha256(" ".join(self.text.split()).encode()).digest()
        except UnicodeEncodeError as error:
            raise UserError(f"A document of {self.source} is broken Unicode ({error.reason}): repair it.") from error
