"""Thinning: of what may not be needed as much as possible goes at once, before clean-up tries every piece by itself.

An effect is, to first order, what removing a piece takes from the right answers' margin: the margin's derivative in the share
to which the piece is kept (compare edge attribution patching, Syed et al. 2023). By bisection, the most pieces of least effect
that can go together go; effects are taken anew, until next to nothing goes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from sparse_circuits.circuits.ablate import StandIn, chain, soft_taps
from sparse_circuits.circuits.clean_up import Loss, Piece
from sparse_circuits.circuits.cuts import cut_taps, scaled_cuts
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.nodes import list_nodes, mark
from sparse_circuits.circuits.subgraph import Subgraph, cut_edges
from sparse_circuits.model import Transformer
from sparse_circuits.tasks import PairBatch, right_margins

FEW = 4
"""Pieces for which another round is not worth its time."""


def thin(
    subgraph: Subgraph,
    effects_of: Callable[[Subgraph], dict[Piece, float]],
    near: Callable[[Subgraph], Loss],
    *,
    target_loss: float,
) -> Subgraph:
    """Remove pieces of least effect, many at once, as long as the target is reached.

    Args:
        subgraph: reaches the target.
        effects_of: of every piece of a subgraph, what its removal costs.
        near: of a subgraph, how to run those that differ from it.
        target_loss: in nats.
    """
    while True:
        effects, loss_of = effects_of(subgraph), near(subgraph)
        least_first = sorted(effects, key=effects.__getitem__)
        n_gone, n_too_many = 0, len(least_first) + 1
        while n_too_many - n_gone > 1:
            n = (n_gone + n_too_many) // 2
            if loss_of(subgraph.without(*least_first[:n])) <= target_loss:
                n_gone = n
            else:
                n_too_many = n
        subgraph = subgraph.without(*least_first[:n_gone])
        if n_gone < FEW:
            return subgraph


@torch.enable_grad()
def effects(model: Transformer, batch: PairBatch, subgraph: Subgraph, stand_in: StandIn) -> dict[Piece, float]:
    """Return for every piece of a subgraph, run alone, the derivative of the mean right margin in its share.

    Args:
        batch: the pairs to run on.
        subgraph: whose missing edges stay cut.
        stand_in: what an ablated node is replaced by.
    """
    device, cut = model.embed.weight.device, cut_edges(model, subgraph)
    kept = mark(subgraph.nodes, model.config).to(model.embed.weight)
    node_share, edge_share = kept.requires_grad_(), torch.ones(len(subgraph.edges), device=device).requires_grad_()
    cuts = scaled_cuts([*cut, *subgraph.edges], torch.cat([torch.ones(len(cut), device=device), 1 - edge_share]))
    taps = chain(soft_taps(node_share, stand_in, model.config), cut_taps(model, cuts, stand_in))
    margin = right_margins(answer_margins(model, batch, taps=taps)).mean()
    of_nodes, of_edges = torch.autograd.grad(margin, [node_share, edge_share])
    pieces = [*list_nodes(subgraph.nodes), *subgraph.edges]
    return dict(zip(pieces, torch.cat([of_nodes[kept.bool()], of_edges]).tolist(), strict=True))
