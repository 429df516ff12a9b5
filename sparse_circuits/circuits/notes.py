"""What a reader has written on a circuit: names for its nodes, and groups of them. They travel inside its file.

The page downloads them as `{"task": ..., "labels": {node: text}, "groups": [{"name": ..., "nodes": [...]}]}`, which is what
`Notes.load` reads:

    circuit.with_notes(Notes.load(Path("with_open.notes.json"))).save(path)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sparse_circuits.errors import UserError, nearest
from sparse_circuits.plain import from_plain
from sparse_circuits.run import read_json

FORM = "give labels {node: text} and groups [{name, nodes}], as the page downloads them."


@dataclass(frozen=True)
class Group:
    """Nodes that a reader takes together."""

    name: str
    nodes: list[str]
    """As they are written elsewhere: `3.attn.q[17]`."""


@dataclass(frozen=True)
class Notes:
    """Labels and groups of a circuit's nodes."""

    labels: dict[str, str] = field(default_factory=dict)
    """Node -> what it is called."""
    groups: list[Group] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> Notes:
        """Read what the page has downloaded.

        Raises:
            UserError: the file is missing, or holds no notes.
        """
        return cls.from_plain(read_json(path), source=path)

    @classmethod
    def from_plain(cls, values: object, *, source: object = "the notes") -> Notes:
        """Build notes from plain values; other keys, such as the page's `task`, are left out.

        Args:
            values: `{"labels": {node: text}, "groups": [{"name": text, "nodes": [node, ...]}]}`; either may be missing.
            source: what an error calls them.

        Raises:
            UserError: the values are of another form.
        """
        if not isinstance(values, dict):
            raise UserError(f"{source} are no notes: {FORM}")
        try:
            notes = from_plain(cls, {key: values[key] for key in ("labels", "groups") if key in values})
            texts = [*notes.labels.items(), *((group.name, node) for group in notes.groups for node in group.nodes)]
            is_text = all(isinstance(text, str) for pair in texts for text in pair)
        except (AttributeError, TypeError) as error:
            raise UserError(f"{source} are no notes ({error}): {FORM}") from error
        if not is_text:
            raise UserError(f"{source} hold something that is no text: {FORM}")
        return notes

    def check(self, nodes: Collection[str]) -> None:
        """Refuse notes on nodes that are not there.

        Args:
            nodes: of the circuit.

        Raises:
            UserError: a label or a group names another node.
        """
        for node in self._mentioned():
            if node not in nodes:
                raise UserError(f'The circuit has no node "{node}"{nearest(node, nodes)} to write on: take it out.')

    def _mentioned(self) -> Iterator[str]:
        yield from self.labels
        for group in self.groups:
            yield from group.nodes
