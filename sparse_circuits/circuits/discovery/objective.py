"""Which of the units outside a circuit one step of mask learning removes.

`full` removes them all (Gao et al. 2025, appendix A.5). Then a mask may pick what it removes so that the effects cancel and
give the right answer, though the model does nothing of the kind. A circuit that the model uses gives it whatever else is
removed, so `partial` draws a part of the outside, of any size from none to all, and `adversarial` takes the part that hurts
most, found by gradient steps. Either makes one choice for a whole batch (compare the stochastic and the adversarial ablations
of parameter decomposition).
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

import torch
from jaxtyping import Bool, Float
from torch import Tensor

N_ASCENTS = 2
ASCENT_RATE = 0.5
"""Of the sign of the gradient; shares run from 0 to 1."""


class Objective(Enum):
    """What is removed of the outside."""

    full = "full"
    partial = "partial"
    adversarial = "adversarial"


LossOfShares = Callable[[Float[Tensor, " unit"]], Float[Tensor, ""]]
"""The task loss when each unit is kept to a share from 0 to 1, differentiable in the shares."""


def choose_removed(
    objective: Objective, kept: Bool[Tensor, " unit"], loss_of: LossOfShares, *, generator: torch.Generator
) -> Bool[Tensor, " unit"]:
    """Mark the units that are removed in one step wherever they are outside the circuit.

    Args:
        objective: how to choose.
        kept: the circuit that the mask says now.
        loss_of: what the adversary climbs.
        generator: of the draws, on the CPU.
    """
    match objective:
        case Objective.full:
            return torch.ones_like(kept)
        case Objective.partial:
            return (torch.rand(len(kept), generator=generator) < torch.rand((), generator=generator)).to(kept.device)
        case Objective.adversarial:
            return _worst(kept, loss_of, generator=generator)
    raise AssertionError(objective)


def _worst(kept: Bool[Tensor, " unit"], loss_of: LossOfShares, *, generator: torch.Generator) -> Bool[Tensor, " unit"]:
    removed = torch.rand(len(kept), generator=generator).to(kept.device)
    for _ in range(N_ASCENTS):
        removed.requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(torch.where(kept, 1, 1 - removed)), [removed])
        removed = (removed.detach() + ASCENT_RATE * gradient.sign()).clamp(0, 1)
    return removed > 0.5


def seen_mask(mask: Float[Tensor, " unit"], removed: Bool[Tensor, " unit"]) -> Float[Tensor, " unit"]:
    """Return the mask that a step sees: units that it does not remove are on, whatever their parameter, and get no gradient."""
    return torch.where(removed, mask, torch.ones_like(mask))
