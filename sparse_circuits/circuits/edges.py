"""The edges of a circuit, read off the weights, and the links that are listed apart.

An *edge* is one nonzero weight between two of the circuit's nodes (Gao et al. 2025, section 2.2). Links through embedding,
residual stream and unembedding join nodes too, but are never in the edge count: there, a channel just keeps its number.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch

from sparse_circuits.circuits.nodes import Channels, list_nodes
from sparse_circuits.model import Link, Node, Transformer, links
from sparse_circuits.model.sites import FINAL


class Edge(NamedTuple):
    """One weight between two nodes."""

    source: Node
    target: Node
    weight: float

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


class TokenLink(NamedTuple):
    """One weight between a token and a channel of the residual stream."""

    token: int
    channel: int
    weight: float


@torch.no_grad()
def circuit_edges(model: Transformer, nodes: Channels) -> list[Edge]:
    """Return every nonzero weight of the model whose two ends are in the circuit, in firing order."""
    return [edge for link in links(model.config) for edge in _edges_of(model, link, nodes)]


def _edges_of(model: Transformer, link: Link, nodes: Channels) -> list[Edge]:
    sources, targets = (list(nodes.get(site, ())) for site in link)
    if not sources or not targets:
        return []
    weights = model.link_weight(link)[targets][:, sources]
    places = weights.nonzero()
    return [
        Edge(Node(link.source, sources[column]), Node(link.target, targets[row]), weight)
        for (row, column), weight in zip(places.tolist(), weights[places.unbind(1)].tolist(), strict=True)
    ]


@torch.no_grad()
def residual_links(model: Transformer, nodes: Channels) -> list[Edge]:
    """Return which nodes write to a channel of the residual stream that a later node reads.

    The weight is the gain that the reader's norm puts on the channel; 1 for `final_resid`, which stands before its norm.
    """
    found, writers = [], []
    for site in nodes:
        if _reads(site):
            gain = _reading_gain(model, site)
            found += [
                Edge(Node(writer, channel), Node(site, channel), gain[channel])
                for writer in writers
                for channel in sorted(set(nodes[writer]) & set(nodes[site]))
            ]
        elif site.endswith("resid_delta"):
            writers.append(site)
    return found


def _reads(site: str) -> bool:
    return site.endswith("act_in") or site == FINAL


def _reading_gain(model: Transformer, site: str) -> list[float]:
    if site == FINAL:
        return [1.0] * model.config.d_model
    layer, sublayer, _ = site.split(".")
    return getattr(model.layers[int(layer)], sublayer).reader.norm.gain.tolist()


@torch.no_grad()
def embedding_links(model: Transformer, nodes: Channels) -> list[TokenLink]:
    """Return the nonzero embedding weights of every channel of the residual stream that the circuit reads."""
    read = {c for site, channels in nodes.items() if _reads(site) for c in channels}
    channels = sorted(c for c in read if c < model.config.d_model)  # beyond are positions
    weights = model.embed.weight[:, channels]
    return [TokenLink(row, channels[column], weights[row, column].item()) for row, column in weights.nonzero().tolist()]


@torch.no_grad()
def unembedding_links(model: Transformer, nodes: Channels, tokens: Iterable[int]) -> list[TokenLink]:
    """Return the nonzero unembedding weights, the last norm's gain included, from the circuit to the logits of `tokens`."""
    channels, tokens = list(nodes.get(FINAL, ())), list(tokens)
    weights = (model.unembed.weight * model.norm.gain)[tokens][:, channels]
    return [TokenLink(tokens[row], channels[column], weights[row, column].item()) for row, column in weights.nonzero().tolist()]


def nodes_without_links(nodes: Channels, linked: Iterable[Edge]) -> list[Node]:
    """Return the nodes that none of these edges or residual links touches."""
    touched = {node for edge in linked for node in edge[:2]}
    return [node for node in list_nodes(nodes) if node not in touched]
