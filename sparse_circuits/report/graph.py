"""A circuit as a graph from tokens to answer, with all that is known of it, under these names:

    task, summary, n_nodes, n_edges, model_hash
    verdict      one line: whether every check keeps its bounds, or which does not
    shape        {n_layers, d_model, d_head, n_heads} of its model
    nodes        [{site, channel, ...}] in firing order. Two sites are ends rather than nodes of the circuit and stay out of
                 its counts: `embed`, what the embedding writes to a residual channel that the circuit reads, and `logits`,
                 whose channel is a token's id, with its `text`. The circuit's own have `in_model` (neighbours.py); `without`:
                 the validation loss of the circuit without this node (its certificate); `fidelity`: [correlation, error]
                 of its activation in the circuit against that in the model (circuits/card.py)
    edges        [[source, target, weight, without]], ends as positions in `nodes`; every number that float32 holds survives;
                 `without` as for nodes, null where it was not measured
    residual     [[source, target, gain]] writer and reader of one residual channel, with the gain of the reader's norm;
                 null where the writer is the embedding, whose weight depends on the token
    unembedding  [[source, target, weight]] from `final_resid` to `logits`, the last norm's gain included
    channels     neighbours.py
    pairs, activations, attention   pairs.py
    paths        routes.py, or null
    checks       [{name, about, loss, low, high, accuracy, n_draws, at_most, at_least}] on `n_pairs` held-out pairs; low and
                 high are the ends of a 95 % bootstrap interval
    target_loss, n_pairs, interchange, pattern_error, backups   as on the card (circuits/card.py)
    merges       [{node, into, ratio, r_squared}] nodes that another writes for
    notes        {labels: {node: text}, groups: [{name, nodes}]}

The graph is whole: every node, every weight between nodes, and the stream that carries them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.nodes import list_nodes
from sparse_circuits.model import Node
from sparse_circuits.model.sites import FINAL
from sparse_circuits.plain import to_plain
from sparse_circuits.report.neighbours import channel_tokens, in_model
from sparse_circuits.report.numbers import nine_digits
from sparse_circuits.report.pairs import held_out_pairs, on_pairs
from sparse_circuits.report.routes import circuit_paths
from sparse_circuits.report.texts import Texts
from sparse_circuits.tasks.encode import EncodedPair

EMBED, LOGITS = "embed", "logits"
N_ANSWERS = 8
"""Answers drawn where there are no pairs to choose them."""


def circuit_graph(circuit: Circuit, texts: Texts) -> dict[str, Any]:
    """Return a circuit's part of the payload; the texts of its tokens go to `texts`."""
    pairs = held_out_pairs(circuit)
    answers = _answer_ids(circuit, pairs)
    embedded = sorted({link.channel for link in circuit.embedding_links()})
    own = list_nodes(circuit.nodes)
    nodes = [*(Node(EMBED, channel) for channel in embedded), *own, *(Node(LOGITS, token) for token in answers)]
    place = {node: position for position, node in enumerate(nodes)}
    shape, card = circuit.model.config, circuit.card
    return {
        "task": circuit.task.name,
        "summary": circuit.task.summary,
        "n_nodes": card.n_nodes,
        "n_edges": card.n_edges,
        "verdict": card.verdict,
        "model_hash": circuit.model_hash,
        "shape": {"n_layers": shape.n_layers, "d_model": shape.d_model, "d_head": shape.d_head, "n_heads": shape.heads},
        "nodes": _nodes(circuit, nodes),
        **_links(circuit, place, answers),
        "channels": channel_tokens(circuit, texts),
        **on_pairs(
            circuit,
            pairs,
            [node for node in nodes if node.site != LOGITS],
            {token: place[Node(LOGITS, token)] for token in answers},
            texts,
        ),
        "paths": circuit_paths(
            circuit,
            place,
            texts,
            answers=circuit.task.answers or _first_answers(circuit, pairs),
            among={token for pair in pairs for token in (*pair.positive, *pair.negative)} or None,
        ),
        "checks": [to_plain(check) for check in card.checks],
        "target_loss": card.target_loss,
        "n_pairs": card.n_pairs,
        "interchange": to_plain(card.interchange),
        "pattern_error": card.pattern_error,
        "backups": card.backups,
        "merges": to_plain(circuit.merges),
        "notes": to_plain(circuit.notes),
    }


def _nodes(circuit: Circuit, nodes: Sequence[Node]) -> list[dict[str, Any]]:
    fidelity = {each.node: [nine_digits(each.correlation), nine_digits(each.error)] for each in circuit.card.fidelity}

    def described(node: Node) -> dict[str, Any]:
        plain = {"site": node.site, "channel": node.channel}
        match node.site:
            case "embed":
                return plain
            case "logits":
                return {**plain, "text": circuit.tokenizer.token(node.channel)}
        measured = {"without": circuit.card.without_nodes.get(str(node)), "fidelity": fidelity.get(str(node))}
        return {**plain, "in_model": in_model(circuit.model, node), **{key: x for key, x in measured.items() if x is not None}}

    return [described(node) for node in nodes]


def _links(circuit: Circuit, place: Mapping[Node, int], answers: Sequence[int]) -> dict[str, Any]:
    readers = [node for node in place if node.site.endswith("act_in") or node.site == FINAL]
    return {
        "edges": [
            [place[edge.source], place[edge.target], nine_digits(edge.weight), circuit.card.without_edges.get(str(edge))]
            for edge in circuit.edges
        ],
        "residual": [
            [place[Node(EMBED, node.channel)], place[node], None] for node in readers if Node(EMBED, node.channel) in place
        ]
        + [[place[link.source], place[link.target], nine_digits(link.weight)] for link in circuit.residual_links()],
        "unembedding": [
            [place[Node(FINAL, link.channel)], place[Node(LOGITS, link.token)], nine_digits(link.weight)]
            for link in circuit.unembedding_links(answers)
        ],
    }


def _answer_ids(circuit: Circuit, pairs: Sequence[EncodedPair]) -> list[int]:
    if pairs:
        return list(dict.fromkeys(token for pair in pairs for token in (pair.positive_answer, pair.negative_answer)))
    return (circuit.task.answer_ids or [])[:N_ANSWERS]


def _first_answers(circuit: Circuit, pairs: Sequence[EncodedPair]) -> tuple[str, str] | None:
    if not pairs:
        return None
    return circuit.tokenizer.token(pairs[0].positive_answer), circuit.tokenizer.token(pairs[0].negative_answer)
