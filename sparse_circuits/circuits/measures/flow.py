"""A circuit as a graph without cycles, from the tokens to the answers.

Its edges, residual links, embedding and unembedding, weights as they are: norms' gains count, their denominators do not. All
tokens are one vertex; it stands before every channel of the stream that the circuit reads, with the weight of the token that
writes most there. For attention scores the graph is mirrored behind q[c] -> k[c]: a way through it is a query's way from the
tokens and, backwards, a key's. A q[c] whose k[c] is outside the circuit meets a constant and leads nowhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch

from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.measures.ways import Graph
from sparse_circuits.circuits.spec import parting_tokens
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node
from sparse_circuits.model.sites import FINAL

TOKENS, ANSWERS = "tokens", "answers"


class Start(NamedTuple):
    """A token that a path begins with."""

    token: int
    text: str
    weight: float
    """Its embedding's weight in the path's first channel."""


Starts = Mapping[int, tuple[Start, ...]]
"""For every residual channel the tokens that write most to it; positions' channels are not in it."""


class Mirrored(NamedTuple):
    """A vertex on the keys' side of a score, from where ways run back to the tokens."""

    vertex: Node | str


def ov_graph(circuit: Circuit, starts: Starts, answers: tuple[str, str] | None) -> Graph:
    """Return the circuit from the tokens to the difference of the answers' logits (positive - negative).

    Raises:
        UserError: as for `answer_tokens`.
    """
    graph = _graph(circuit, starts)
    for channel, weight in _answer_weights(circuit, answers).items():
        graph[Node(FINAL, channel)].append((ANSWERS, weight))
    return graph


def qk_graph(circuit: Circuit, starts: Starts) -> Graph:
    """Return the circuit from the tokens to attention scores and, mirrored, back to the tokens."""
    graph = _graph(circuit, starts)
    for source, following in list(graph.items()):
        for target, weight in following:
            graph[Mirrored(target)].append((Mirrored(source), weight))
    for site in circuit.nodes:
        if site.endswith("attn.q"):
            keys = f"{site.removesuffix('q')}k"
            for channel in sorted(set(circuit.nodes[site]) & set(circuit.nodes.get(keys, ()))):
                graph[Node(site, channel)].append((Mirrored(Node(keys, channel)), circuit.model.config.d_head**-0.5))
    return graph


def _graph(circuit: Circuit, starts: Starts) -> defaultdict:
    """Return what follows what inside the circuit, from the tokens on."""
    graph = defaultdict(list)
    for site, gains in _gains(circuit).items():
        for channel in circuit.nodes.get(site, ()):
            graph[TOKENS].append((Node(site, channel), _first_weight(starts, channel) * gains[channel]))
    for source, target, weight in [*circuit.edges, *circuit.residual_links()]:
        graph[source].append((target, weight))
    return graph


def _gains(circuit: Circuit) -> dict[str, list[float]]:
    """Return by what each reader of the residual stream multiplies its channels, positions behind the others."""
    gains = {}
    for _, sublayer in circuit.model.sublayers():
        norms = [norm for norm in (sublayer.reader.norm, sublayer.reader.position_norm) if norm is not None]
        gains[sublayer.reader.site] = torch.cat([norm.gain for norm in norms]).tolist()
    return gains | {FINAL: [1.0] * circuit.model.config.d_model}


def find_starts(circuit: Circuit, among: Collection[int] | None, *, n_tokens: int) -> Starts:
    """Return the tokens that write most to each channel of the stream that the circuit reads.

    Args:
        among: the tokens to choose from; None: all.
        n_tokens: how many to name, at least 1.

    Raises:
        UserError: n_tokens below 1.
    """
    if n_tokens < 1:
        raise UserError(f"n_tokens is {n_tokens}: list at least 1 token with each path.")
    starts: dict[int, tuple[Start, ...]] = dict.fromkeys(range(circuit.model.config.d_model), ())
    for token, channel, weight in sorted(circuit.embedding_links(), key=lambda link: -abs(link.weight)):
        if len(starts[channel]) < n_tokens and (among is None or token in among):
            starts[channel] += (Start(token, circuit.tokenizer.token(token), weight),)
    return starts


def _first_weight(starts: Starts, channel: int) -> float:
    if channel not in starts:
        return 1.0
    return starts[channel][0].weight if starts[channel] else 0.0


def _answer_weights(circuit: Circuit, answers: tuple[str, str] | None) -> dict[int, float]:
    """Return what each channel of the final residual stream adds to the positive answer's logit minus the negative's."""
    positive, negative = answer_tokens(circuit, answers)
    weights: dict[int, float] = defaultdict(float)
    for token, channel, weight in circuit.unembedding_links([positive, negative]):
        weights[channel] += weight if token == positive else -weight
    return weights


def answer_tokens(circuit: Circuit, answers: tuple[str, str] | None = None) -> tuple[int, int]:
    """Return the tokens at which the positive and the negative answer part.

    Raises:
        UserError: no answers where the task has several, or answers that start alike or are not the task's.
    """
    answers = answers or circuit.task.answers
    if answers is None:
        raise UserError(f"The answers of {circuit.task.name} differ from pair to pair: give answers=(positive, negative).")
    parted = parting_tokens(answers, circuit.tokenizer)
    if parted is None:
        raise UserError(f"{answers[0]!r} and {answers[1]!r} start with the same tokens: give answers that part.")
    known = circuit.task.answer_ids
    if known is not None and not set(parted) <= set(known):
        named = ", ".join(repr(circuit.tokenizer.token(each)) for each in known[:8])
        raise UserError(f"{answers[0]!r} and {answers[1]!r} are not told apart by tokens of this task: give two of {named}.")
    return parted
