"""What the pieces of a subgraph are worth, all of them from one backward pass.

To first order, removing a piece takes its effect from the right answers' margin: the margin's derivative in the share to which
the piece is kept (compare edge attribution patching, Syed et al. 2023).
"""

from __future__ import annotations

import torch

from sparse_circuits.circuits.ablate import StandIn, chain, soft_taps
from sparse_circuits.circuits.clean_up import Piece
from sparse_circuits.circuits.cuts import cut_taps, scaled_cuts
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.nodes import list_nodes, mark
from sparse_circuits.circuits.subgraph import Subgraph, cut_edges
from sparse_circuits.model import Transformer
from sparse_circuits.tasks import PairBatch, right_margins


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
