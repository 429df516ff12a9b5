"""Part of a model: some of its nodes, and of the weights between them some. All that is not in it is ablated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sparse_circuits.circuits.ablate import StandIn, ablation_taps
from sparse_circuits.circuits.cuts import cut_taps, cuts_of
from sparse_circuits.circuits.edges import Edge, circuit_edges
from sparse_circuits.circuits.nodes import Channels, list_nodes, mark
from sparse_circuits.model import Node, Transformer
from sparse_circuits.model.taps import Taps, chain


@dataclass(frozen=True)
class Merge:
    """One node that another writes for."""

    node: str
    """Gone from the circuit."""
    into: str
    """Writes in its place."""
    ratio: float
    """Deviation of `node` over deviation of `into`."""
    r_squared: float
    """Of the regression on pretraining tokens."""


class Subgraph(NamedTuple):
    """Nodes, and edges between them."""

    nodes: dict[str, list[int]]
    """Channels of every site that has any, in firing order."""
    edges: list[Edge] | None = None
    """Kept weights; what the model has between two nodes beyond them is cut. None: nothing is cut."""
    merges: tuple[Merge, ...] = ()
    """Nodes that others write for; their weights are part of these nodes' edges."""

    @classmethod
    def whole(cls, model: Transformer, nodes: Channels) -> Subgraph:
        """Return these nodes with every weight that the model has between them listed."""
        return cls({site: list(channels) for site, channels in nodes.items()}, circuit_edges(model, nodes))

    def pieces(self) -> Iterator[Node | Edge]:
        """Yield every node, then every edge."""
        yield from list_nodes(self.nodes)
        yield from self.edges

    def without(self, *pieces: Node | Edge) -> Subgraph:
        """Return the rest: with a node go its edges, and with the last edge that leaves a node goes that node.

        To cut all edges that leave a node is to ablate it (cuts.py), so that what the circuit computes is the same.
        """
        gone = set(pieces)
        edges = [edge for edge in self.edges if not (edge in gone or edge.source in gone or edge.target in gone)]
        unread = {edge.source for edge in self.edges} - {edge.source for edge in edges}
        if unread - gone:
            return self.without(*gone, *unread)
        sites = {piece.site for piece in gone if isinstance(piece, Node)}
        left = {site: [c for c in self.nodes[site] if Node(site, c) not in gone] for site in sites & self.nodes.keys()}
        nodes = {site: left.get(site, channels) for site, channels in self.nodes.items()}
        merges = tuple(merge for merge in self.merges if Node.parse(merge.into) not in gone)
        return Subgraph({site: channels for site, channels in nodes.items() if channels}, edges, merges)


def cut_edges(model: Transformer, subgraph: Subgraph, *, among: Iterable[Edge] | None = None) -> list[Edge]:
    """Return by how much the model's weights between the subgraph's nodes are more than the subgraph's own.

    That is the weight of an edge that was cut, and minus what a merge has added to one (merge.py).

    Args:
        model: the model.
        subgraph: part of it.
        among: the model's weights between these nodes and more, where they were listed before; None: they are listed here.
    """
    if subgraph.edges is None:
        return []
    among = circuit_edges(model, subgraph.nodes) if among is None else among
    inside = set(list_nodes(subgraph.nodes))
    excess = {edge[:2]: edge.weight for edge in among if edge.source in inside and edge.target in inside}
    for edge in subgraph.edges:
        excess[edge[:2]] = excess.get(edge[:2], 0.0) - edge.weight
    return [Edge(*ends, weight) for ends, weight in excess.items() if weight]


def subgraph_taps(model: Transformer, subgraph: Subgraph, stand_in: StandIn, *, among: Iterable[Edge] | None = None) -> Taps:
    """Return taps that ablate every node outside and cut every edge outside, on the reader's side; `among` as `cut_edges`."""
    cuts = cuts_of(cut_edges(model, subgraph, among=among), model.embed.weight.device)
    nodes = ablation_taps(mark(subgraph.nodes, model.config), stand_in, model.config)
    return chain(nodes, cut_taps(model, cuts, stand_in))
