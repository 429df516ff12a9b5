"""A circuit as a graph from tokens to answer, with its numbers, under these names:

    task, summary, n_nodes, n_edges, model_hash
    verdict      one line: whether every check keeps its bounds, or which does not
    shape        {n_layers, d_model, d_head} of its model
    nodes        [{site, channel, ...}] in firing order. Two sites are ends rather than nodes of the circuit and stay out of
                 its counts: `embed`, what the embedding writes to a residual channel that the circuit reads, with
                 `tokens`: [[text, weight]], the largest; and `logits`, whose channel is a token's id, with its `text`.
                 Nodes of `final_resid` have `tokens` too: those whose logits they move most. The circuit's own have
                 `without`: the validation loss of the circuit without this node (its certificate)
    edges        [[source, target, weight, without]], ends as positions in `nodes`; every number that float32 holds survives;
                 `without` as for nodes, null where it was not measured
    residual     [[source, target, gain]] writer and reader of one residual channel, with the gain of the reader's norm;
                 null where the writer is the embedding, whose weight depends on the token
    unembedding  [[source, target, weight]] from `final_resid` to `logits`, the last norm's gain included
    checks       [{name, about, loss, low, high, accuracy, n_draws, at_most, at_least}] on held-out pairs; low and high are
                 the ends of a 95 % bootstrap interval
    examples     [{prompt, answer, other, probability}] both prompts of one held-out pair, with the probability that the
                 circuit gives the right answer; empty for a task that is not among the project's own

The graph is whole: every node, every weight between nodes, and the stream that carries them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.edges import TokenLink
from sparse_circuits.circuits.nodes import list_nodes
from sparse_circuits.circuits.spec import example_pairs
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.model import Node
from sparse_circuits.model.sites import FINAL
from sparse_circuits.plain import to_plain
from sparse_circuits.tasks.encode import EncodedPair, collate

EMBED, LOGITS = "embed", "logits"
N_TOKENS = 6
"""Tokens listed for a residual channel."""
N_ANSWERS = 8
"""Answers drawn where there is no example to choose two."""


def circuit_graph(circuit: Circuit) -> dict[str, Any]:
    """Return a circuit's part of the payload."""
    pair = _example_pair(circuit)
    config = circuit.model.config
    return {
        "task": circuit.task.name,
        "summary": circuit.task.summary,
        "n_nodes": circuit.card.n_nodes,
        "n_edges": circuit.card.n_edges,
        "verdict": circuit.card.verdict,
        "model_hash": circuit.model_hash,
        "shape": {"n_layers": config.n_layers, "d_model": config.d_model, "d_head": config.d_head},
        **_links(circuit, _answer_ids(circuit, pair)),
        "checks": _checks(circuit),
        "examples": _examples(circuit, pair) if pair else [],
    }


def _links(circuit: Circuit, answers: Sequence[int]) -> dict[str, Any]:
    embedding = _by_channel(circuit.embedding_links())
    unembedding = _by_channel(circuit.unembedding_links(range(circuit.model.d_vocab)))
    own = list_nodes(circuit.nodes)
    nodes = [*(Node(EMBED, channel) for channel in sorted(embedding)), *own, *(Node(LOGITS, token) for token in answers)]
    place = {node: position for position, node in enumerate(nodes)}
    readers = [node for node in own if (node.site.endswith("act_in") or node.site == FINAL) and node.channel in embedding]
    read_out = circuit.unembedding_links(answers)
    return {
        "nodes": [
            _node(node, circuit.tokenizer, embedding, unembedding) | _without(circuit.card.without_nodes, node)
            for node in nodes
        ],
        "edges": [
            [place[edge.source], place[edge.target], _exact(edge.weight), circuit.card.without_edges.get(str(edge))]
            for edge in circuit.edges
        ],
        "residual": [[place[Node(EMBED, node.channel)], place[node], None] for node in readers]
        + [[place[link.source], place[link.target], _exact(link.weight)] for link in circuit.residual_links()],
        "unembedding": [
            [place[Node(FINAL, link.channel)], place[Node(LOGITS, link.token)], _exact(link.weight)] for link in read_out
        ],
    }


def _by_channel(links: Iterable[TokenLink]) -> dict[int, list[TokenLink]]:
    found: dict[int, list[TokenLink]] = defaultdict(list)
    for link in links:
        found[link.channel].append(link)
    return found


def _node(
    node: Node, tokenizer: Tokenizer, embedding: dict[int, list[TokenLink]], unembedding: dict[int, list[TokenLink]]
) -> dict[str, Any]:
    described = {"site": node.site, "channel": node.channel}
    if node.site == LOGITS:
        return {**described, "text": tokenizer.token(node.channel)}
    links = {EMBED: embedding, FINAL: unembedding}.get(node.site, {}).get(node.channel)
    if links is None:
        return described
    largest = sorted(links, key=lambda link: -abs(link.weight))[:N_TOKENS]
    return {**described, "tokens": [[tokenizer.token(link.token), _exact(link.weight)] for link in largest]}


def _without(losses: dict[str, float], node: Node) -> dict[str, float]:
    return {"without": losses[str(node)]} if str(node) in losses else {}


def _exact(weight: float) -> float:
    """Drop the digits that float32 never had: nine bring back the same number."""
    return float(f"{weight:.9g}")


def _checks(circuit: Circuit) -> list[dict[str, Any]]:
    """Return the card's checks, with the bounds that a circuit is held to."""
    return [to_plain(check) for check in circuit.card.checks]


def _example_pair(circuit: Circuit) -> EncodedPair | None:
    """Draw the first held-out pair of the circuit's task, where it is one of the project's own."""
    # Eight, because the draws that may be dropped on the way to a valid pair are counted per pair asked for.
    pairs = example_pairs(circuit.task, circuit.tokenizer, n_pairs=8, max_tokens=circuit.model.config.n_ctx)
    return next(iter(pairs), None)


def _answer_ids(circuit: Circuit, pair: EncodedPair | None) -> list[int]:
    if pair is not None:
        return [pair.positive_answer, pair.negative_answer]
    return (circuit.task.answer_ids or [])[:N_ANSWERS]


def _examples(circuit: Circuit, pair: EncodedPair) -> list[dict[str, Any]]:
    batch = collate([pair], circuit.tokenizer, scoring=circuit.task.scoring).to(circuit.model.embed.weight.device)
    positive, negative = circuit.margins(batch).double().sigmoid().tolist()
    text = circuit.tokenizer.decode
    answers = [text([pair.positive_answer]), text([pair.negative_answer])]
    return [
        {"prompt": text(prompt), "answer": answer, "other": other, "probability": probability}
        for prompt, (answer, other), probability in (
            (pair.positive, answers, positive),
            (pair.negative, answers[::-1], 1 - negative),
        )
    ]
