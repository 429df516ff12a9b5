"""A circuit as a directed graph of networkx, whole: from the tokens that it reads to the logits of its answers.

Nodes are named `site[channel]`, as everywhere. Beside the circuit's own there are three kinds of ends, which it does not
count: `token[412]`, an id of the vocabulary; `embed[17]`, what the embedding writes to a channel of the residual stream that
the circuit reads; `logits[412]`, the logit of an answer. Every node has
    site, channel    the two parts of its name
    kind             the site without its layer: `attn.q`, `mlp.post_act`, `final_resid`, `token`, `embed`, `logits`
    layer            that of the site; -1 for `token` and `embed`, n_layers for `final_resid` and `logits`
    text             of a token or logit only: the token's text
and every edge
    weight           the matrix entry; for a residual link the gain that the reader's norm puts on the channel
    kind             one of EdgeKind: only `weight` is an edge in the paper's sense and in the circuit's count
What the card says of single nodes and edges they carry, too, as far as it was measured:
    loss_without     of nodes and edges: the calibrated validation loss without it
    correlation, error    of nodes: how its activation compares with that in the unpruned model
The graph itself has task, summary, model_hash, calibration {scale, shift}, and the rest of the card, its checks by name.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from enum import Enum
from typing import Any, NamedTuple

import networkx as nx

from sparse_circuits.circuits import Card, Circuit
from sparse_circuits.circuits.nodes import list_nodes
from sparse_circuits.model import Node
from sparse_circuits.model.sites import FINAL
from sparse_circuits.plain import to_plain

TOKEN, EMBED, LOGITS = "token", "embed", "logits"


class EdgeKind(Enum):
    """What carries a value from one node to another."""

    weight = "weight"
    """An entry of a weight matrix."""
    residual = "residual"
    """A channel of the residual stream."""
    embedding = "embedding"
    """An entry of the embedding."""
    unembedding = "unembedding"
    """An entry of the unembedding, the last norm's gain included."""


class Arrow(NamedTuple):
    """An edge of the graph."""

    source: Node
    target: Node
    weight: float
    kind: EdgeKind


def networkx(circuit: Circuit) -> nx.DiGraph:
    """Return a circuit as a graph, its nodes in firing order."""
    card, measured = _card(circuit.card)
    graph = nx.DiGraph(
        task=circuit.task.name,
        summary=circuit.task.summary,
        model_hash=circuit.model_hash,
        calibration=to_plain(circuit.calibration),
        card=card,
    )
    arrows = list(_arrows(circuit))
    for node in _nodes(circuit, arrows):
        graph.add_node(str(node), **_attributes(circuit, node), **measured[str(node)])
    for source, target, weight, kind in arrows:
        graph.add_edge(str(source), str(target), weight=weight, kind=kind.name, **measured[f"{source} -> {target}"])
    return graph


def _card(card: Card) -> tuple[dict[str, Any], dict[str, dict[str, float]]]:
    """Return the card without what it says of single nodes and edges, and that by their names; not finite is None."""
    whole = json.loads(json.dumps(to_plain(card)), parse_constant=lambda not_finite: None)
    rows = [(name, {"loss_without": loss}) for of in ("without_nodes", "without_edges") for name, loss in whole.pop(of).items()]
    rows += [(fidelity.pop("node"), fidelity) for fidelity in whole.pop("fidelity")]
    measured: dict[str, dict[str, float]] = defaultdict(dict)
    for name, numbers in rows:
        measured[name].update((key, number) for key, number in numbers.items() if number is not None)
    checks = {check.pop("name"): check for check in whole.pop("checks")}
    return {"verdict": card.verdict, **whole, "checks": checks}, measured


def _arrows(circuit: Circuit) -> Iterator[Arrow]:
    embedding = circuit.embedding_links()
    for link in embedding:
        yield Arrow(Node(TOKEN, link.token), Node(EMBED, link.channel), link.weight, EdgeKind.embedding)
    yield from _embedded(circuit, {link.channel for link in embedding})
    yield from (Arrow(*edge, EdgeKind.weight) for edge in circuit.edges)
    yield from (Arrow(*link, EdgeKind.residual) for link in circuit.residual_links())
    for link in circuit.unembedding_links():
        yield Arrow(Node(FINAL, link.channel), Node(LOGITS, link.token), link.weight, EdgeKind.unembedding)


def _embedded(circuit: Circuit, written: set[int]) -> Iterator[Arrow]:
    """Yield the residual links that start at the embedding, to all nodes that read a channel it writes to."""
    gains = {sublayer.reader.site: sublayer.reader.norm.gain.tolist() for _, sublayer in circuit.model.sublayers()}
    gains[FINAL] = [1.0] * circuit.model.config.d_model  # it stands before its norm
    for site, channels in circuit.nodes.items():
        for channel in channels:
            if site in gains and channel in written:
                yield Arrow(Node(EMBED, channel), Node(site, channel), gains[site][channel], EdgeKind.residual)


def _nodes(circuit: Circuit, arrows: list[Arrow]) -> Iterator[Node]:
    def ends(site: str, end: int) -> list[Node]:
        return sorted({arrow[end] for arrow in arrows if arrow[end].site == site})

    yield from ends(TOKEN, 0)
    yield from ends(EMBED, 0)
    yield from list_nodes(circuit.nodes)
    yield from ends(LOGITS, 1)


def _attributes(circuit: Circuit, node: Node) -> dict[str, Any]:
    layer, _, kind = node.site.partition(".")
    if kind:
        return {"site": node.site, "channel": node.channel, "kind": kind, "layer": int(layer)}
    is_input = node.site in (TOKEN, EMBED)
    described = {"layer": -1 if is_input else circuit.model.config.n_layers}
    if node.site in (TOKEN, LOGITS):
        described["text"] = circuit.tokenizer.token(node.channel)
    return {"site": node.site, "channel": node.channel, "kind": node.site, **described}
