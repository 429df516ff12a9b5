"""Which nodes of the sparse model move a dense model's answers most, where it is pushed along them.

To first order: the gradient of the log odds of the other prompt's answer at what the dense sublayers read, times what steering
adds there for a node at strength 1. One backward pass ranks all nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.bridges.load import Bridged
from sparse_circuits.bridges.steer import READS, directions, place_of, reading_site
from sparse_circuits.model import Node, record
from sparse_circuits.tasks import PairBatch, answer_difference, right_margins


def strongest_nodes(bridged: Bridged, batch: PairBatch, reference: Int[Tensor, "n_rows n_pos"], *, n_nodes: int) -> list[Node]:
    """Return the nodes that move the answers most, the strongest first.

    Args:
        batch: pairs that are not those on which steering is measured.
        reference: ordinary text, on which the streams' sizes are measured.
        n_nodes: how many of all that the bridge leads from.
    """
    effects = first_order_effects(bridged, steerable(bridged), batch, reference)
    return sorted(effects, key=effects.__getitem__, reverse=True)[:n_nodes]


def steerable(bridged: Bridged) -> list[Node]:
    """Return every node that the bridge leads from."""
    read = [crossing.sparse for crossing in bridged.bridge.crossings if crossing.sparse.endswith(tuple(READS.values()))]
    return [Node(reading_site(site), channel) for site in read for channel in range(bridged.sparse.config.d_model)]


@torch.no_grad()
def first_order_effects(
    bridged: Bridged, nodes: Sequence[Node], batch: PairBatch, reference: Int[Tensor, "n_rows n_pos"]
) -> Mapping[Node, float]:
    """Return by how many nats steering along each node alone raises the log odds of the other answer, to first order.

    Args:
        nodes: at `act_in` sites of the sparse model.
        batch: pairs, both prompts of which are steered towards the other; the effect is their mean.
        reference: ordinary text, on which the streams' sizes are measured.

    Raises:
        UserError: a node is not at a site that the bridge leads from.
    """
    sites = list(dict.fromkeys(node.site for node in nodes))
    before, after = (record(bridged.sparse, tokens, sites) for tokens in (batch.tokens, batch.tokens.roll(batch.n_pairs, 0)))
    theirs = {site: reading_site(bridged.bridge.crossings[place_of(bridged, Node(site, 0))].dense) for site in sites}
    slopes = _slopes(bridged, list(theirs.values()), batch)
    effects = {}
    for node, direction in directions(bridged, nodes, reference).items():
        difference = (after[node.site] - before[node.site])[..., node.channel]
        slope = slopes[theirs[node.site]][..., : len(direction)] @ direction
        effects[node] = (difference * slope).sum(1).mean().item()
    return effects


@torch.enable_grad()
def _slopes(bridged: Bridged, sites: Sequence[str], batch: PairBatch) -> dict[str, Tensor]:
    """Return the gradient of each prompt's log odds of the other answer at what the dense model's sublayers read."""
    read: dict[str, Tensor] = {}

    def keep(site: str) -> Callable[[Tensor], Tensor]:
        def tap(value: Tensor) -> Tensor:
            read[site] = value if value.requires_grad else value.detach().requires_grad_()
            return read[site]

        return tap

    logits = bridged.dense(batch.tokens, taps={site: keep(site) for site in sites})
    at_end = logits[torch.arange(len(logits), device=logits.device), batch.last]
    odds = -right_margins(answer_difference(at_end, batch))
    return dict(zip(read, torch.autograd.grad(odds.sum(), list(read.values())), strict=True))
