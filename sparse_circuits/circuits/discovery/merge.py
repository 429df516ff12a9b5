"""Merging redundant writers: two nodes that always say the same count as one.

The paper's authors rescaled redundant nodes by hand (Gao et al. 2025, footnotes). Here a neuron, or a value channel of a head,
is merged into another of its layer (its head) only where a regression on pretraining tokens proves the two proportional:
deviations from the means, no intercept, R^2 at least 0.98. What the one wrote the other then writes too, so its edges carry the
sum; and the circuit must still reach its target. Every merge is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.subgraph import Merge, Subgraph
from sparse_circuits.model import Node, Transformer, record

PROOF = 0.98


@torch.no_grad()
def proportional(model: Transformer, subgraph: Subgraph, means: Means) -> list[Merge]:
    """Return every pair of the subgraph's writers that pretraining tokens prove proportional, the surest first."""
    sites = [site for site in subgraph.nodes if site.endswith(("attn.v", "mlp.post_act")) and len(subgraph.nodes[site]) > 1]
    if means.sample is None or not sites:
        return []
    values = record(model, means.sample.to(model.embed.weight.device), sites)
    found = []
    for site in sites:
        channels = subgraph.nodes[site]
        deviation = (values[site] - means(site, values[site]))[..., channels].flatten(0, 1).double()
        for node, into in permutations(range(len(channels)), 2):
            if site.endswith("attn.v") and channels[node] // model.config.d_head != channels[into] // model.config.d_head:
                continue
            ratio, r_squared = _regress(deviation[:, node], deviation[:, into])
            if r_squared >= PROOF:
                names = (str(Node(site, channels[each])) for each in (node, into))
                found.append(Merge(*names, ratio=ratio, r_squared=r_squared))
    return sorted(found, key=lambda merge: -merge.r_squared)


def _regress(target: Float[Tensor, " n_tokens"], source: Float[Tensor, " n_tokens"]) -> tuple[float, float]:
    size, total = (source @ source).item(), (target @ target).item()
    if not size or not total:
        return 0.0, 0.0
    ratio = (target @ source).item() / size
    rest = target - ratio * source
    return ratio, 1 - (rest @ rest).item() / total


def merged(subgraph: Subgraph, merge: Merge) -> Subgraph:
    """Return the subgraph without the node, its outgoing weights added to those of the other."""
    node, into = Node.parse(merge.node), Node.parse(merge.into)
    moved = {edge.target: merge.ratio * edge.weight for edge in subgraph.edges if edge.source == node}
    rest = subgraph.without(node)
    edges = [
        edge._replace(weight=edge.weight + moved.pop(edge.target, 0.0)) if edge.source == into else edge for edge in rest.edges
    ]
    added = [Edge(into, target, weight) for target, weight in moved.items()]
    return rest._replace(edges=[*edges, *added], merges=(*rest.merges, merge))


def merge_redundant(
    subgraph: Subgraph, candidates: list[Merge], loss_of: Callable[[Subgraph], float], *, target_loss: float
) -> Subgraph:
    """Merge what may be merged with the loss still at the target; a node takes part in one merge at most."""
    for merge in candidates:
        nodes = {str(piece) for piece in subgraph.pieces() if isinstance(piece, Node)}
        free = nodes - {each.into for each in subgraph.merges}
        if {merge.node, merge.into} <= free and loss_of(smaller := merged(subgraph, merge)) <= target_loss:
            subgraph = smaller
    return subgraph
