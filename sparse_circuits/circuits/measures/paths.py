"""The paths of a circuit, from tokens to answers, each with the signed product of the weights along it.

Gao et al. 2025 explain their circuits by such paths, read by hand. There are two kinds:
- An *OV path* runs through values and neurons only: token -> act_in -> v -> resid_delta -> act_in -> post_act -> resid_delta
  -> final_resid -> the difference of two answers' logits.
- A *QK path* joins two ways that meet in one head's score: token -> ... -> q[c] and token -> ... -> k[c], in equal channels.

A product is of weights alone (see flow.py): attention probabilities and the slopes of GELU and AbsTopK count as 1. It says
which way a path can push, and how strongly against others, not what it does on one prompt. Paths are told apart by the channel
of the embedding that they start from, not by token: all tokens that write to it begin the same path.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from enum import Enum
from typing import NamedTuple

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.measures.flow import ANSWERS, TOKENS, Mirrored, Start, Starts, find_starts, ov_graph, qk_graph
from sparse_circuits.circuits.measures.ways import Way, best_first, count_ways
from sparse_circuits.model import Node

N_TOKENS = 3


class PathKind(Enum):
    """Where a path ends."""

    ov = "at the answers"
    query = "in a score, as query"
    key = "in a score, as key"


class CircuitPath(NamedTuple):
    """One way through a circuit."""

    kind: PathKind
    nodes: tuple[Node, ...]
    """In firing order."""
    product: float
    """Of all weights, the first token's included; with another token it is in proportion to that one's weight."""
    starts: tuple[Start, ...]
    """The tokens that write most to the first channel, by |weight|; none where it is a position's, whose value counts as 1."""

    def __str__(self) -> str:
        begin = " ".join(repr(start.text) for start in self.starts) or "position"
        end = f" -> {ANSWERS}" if self.kind is PathKind.ov else ""
        return f"{self.product:+.3g}  {begin} -> {' -> '.join(map(str, self.nodes))}{end}"


class QKPath(NamedTuple):
    """Two ways that meet in a head's score."""

    query: CircuitPath
    key: CircuitPath
    product: float
    """Of both halves and 1 / sqrt(d_head)."""

    def __str__(self) -> str:
        return f"{self.product:+.3g}  [{self.query}] x [{self.key}]"


class PathCounts(NamedTuple):
    """How many paths a circuit has."""

    ov: int
    qk: int


def ov_paths(
    circuit: Circuit,
    *,
    answers: tuple[str, str] | None = None,
    among: Collection[int] | None = None,
    n_tokens: int = N_TOKENS,
) -> Iterator[CircuitPath]:
    """Yield the circuit's OV paths lazily, largest |product| first.

    Args:
        answers: the two whose logits' difference (positive - negative) paths end in; None: the task's.
        among: the tokens that paths may start with, such as those of the task's prompts; None: all.
        n_tokens: tokens listed with each path, at least 1.

    Raises:
        UserError: no answers where the task has several, answers that start alike or are not the task's, or n_tokens below 1.
    """
    starts = find_starts(circuit, among, n_tokens=n_tokens)
    ways = best_first(ov_graph(circuit, starts, answers), TOKENS, ANSWERS)
    return (_path(PathKind.ov, way.vertices[1:-1], way.weights, starts) for way in ways)


def qk_paths(circuit: Circuit, *, among: Collection[int] | None = None, n_tokens: int = N_TOKENS) -> Iterator[QKPath]:
    """Yield the circuit's QK paths lazily, largest |product| first.

    Args:
        among: the tokens that either half may start with; None: all.
        n_tokens: tokens listed with each half, at least 1.

    Raises:
        UserError: n_tokens below 1.
    """
    starts = find_starts(circuit, among, n_tokens=n_tokens)
    ways = best_first(qk_graph(circuit, starts), TOKENS, Mirrored(TOKENS))
    return (_qk_path(way, starts) for way in ways)


def count_paths(
    circuit: Circuit, *, answers: tuple[str, str] | None = None, among: Collection[int] | None = None
) -> PathCounts:
    """Count, without listing them, what `ov_paths` and `qk_paths` yield.

    Raises:
        UserError: as for `ov_paths`.
    """
    starts = find_starts(circuit, among, n_tokens=1)
    return PathCounts(
        ov=count_ways(ov_graph(circuit, starts, answers), TOKENS, ANSWERS),
        qk=count_ways(qk_graph(circuit, starts), TOKENS, Mirrored(TOKENS)),
    )


def _path(kind: PathKind, nodes: Sequence[Node], weights: Sequence[float], starts: Starts) -> CircuitPath:
    return CircuitPath(kind, tuple(nodes), math.prod(weights), starts.get(nodes[0].channel, ()))


def _qk_path(way: Way, starts: Starts) -> QKPath:
    vertices, weights = way
    at_key = next(index for index, vertex in enumerate(vertices) if isinstance(vertex, Mirrored))
    key_nodes = [vertex.vertex for vertex in reversed(vertices[at_key:-1])]
    query = _path(PathKind.query, vertices[1:at_key], weights[: at_key - 1], starts)
    return QKPath(query, _path(PathKind.key, key_nodes, weights[at_key:], starts), math.prod(weights))
