"""Rankings of nodes that nothing is learned for, to hold against learned masks (Gao et al. 2025, figure 31).

An attribution is, to first order, what freezing a node at its mean would take from the right answers' margin: gradient x
(activation - mean), summed over positions, mean over prompts. With every node kept to a share s, that is the margin's
derivative in s at s = 1; integrated gradients (Sundararajan et al. 2017) take its mean along the way from all means (s = 0) to
the model (s = 1). Nodes are ranked by size, and go the same way as masks: discretisation to the same target on the same pairs.
"""

from __future__ import annotations

from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.ablate import StandIn, soft_taps
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.nodes import count_nodes
from sparse_circuits.model import Transformer
from sparse_circuits.tasks import PairBatch, right_margins

N_POINTS = 16
"""Shares at which integrated gradients are taken, in the middle of equal intervals."""


class Baseline(Enum):
    """How to rank nodes."""

    attribution = "attribution"
    integrated_gradients = "integrated_gradients"
    random = "random"


def rank_nodes(
    baseline: Baseline, model: Transformer, batch: PairBatch, stand_in: StandIn, *, seed: int = 0
) -> Float[Tensor, " node"]:
    """Return a score for every node, the largest first to be kept.

    Args:
        batch: train pairs.
        stand_in: what an ablated node is replaced by.
        seed: of the random ranking.
    """
    match baseline:
        case Baseline.attribution:
            return attributions(model, batch, stand_in).abs()
        case Baseline.integrated_gradients:
            shares = ((torch.arange(N_POINTS) + 0.5) / N_POINTS).unsqueeze(1).expand(-1, count_nodes(model.config))
            return torch.stack([attributions(model, batch, stand_in, share.clone()) for share in shares]).mean(0).abs()
        case Baseline.random:
            return torch.rand(count_nodes(model.config), generator=torch.Generator().manual_seed(seed))
    raise AssertionError(baseline)


@torch.enable_grad()
def attributions(
    model: Transformer, batch: PairBatch, stand_in: StandIn, share: Float[Tensor, " node"] | None = None
) -> Float[Tensor, " node"]:
    """Return the derivative of the mean right margin in every node's share; without shares, all nodes are kept whole.

    For a node that is kept whole this is, to first order, by how much the margin falls when it is ablated.
    """
    share = torch.ones(count_nodes(model.config)) if share is None else share
    share = share.to(model.embed.weight).requires_grad_()
    margin = right_margins(answer_margins(model, batch, taps=soft_taps(share, stand_in, model.config))).mean()
    (gradient,) = torch.autograd.grad(margin, [share])
    return gradient.cpu()
