"""Calibration of the answers of a part of a model (Gao et al. 2025, appendix A.5): margin' = scale margin + shift.

Pruning leaves the logits at the wrong size. Two numbers, fitted once on validation pairs, repair that; afterwards they stay
fixed. The scale cannot fall below 0, or it would solve the swapped task all by itself.
Deviation: the scale has an upper bound, too. Without one, margins that differ by a hundredth of a nat count as an answer, and
the smallest circuit that reaches the target is one that the model can do without.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.tasks.score import task_losses

MAX_SCALE = 2.0
"""How much calibration may enlarge margins, unless told otherwise."""

N_STEPS = 16
MIN_SPREAD = 1e-3  # nats; below this margins are rounding errors, not answers
MIN_GRADIENT = 1e-3  # where every answer is right no scale is best: stop when the loss gains next to nothing


@dataclass(frozen=True)
class Calibration:
    """The line that a circuit's margins are put through."""

    scale: float = 1.0
    """Above 0."""
    shift: float = 0.0
    """In nats, towards the positive answer."""

    def __call__(self, margin: Float[Tensor, "*n_prompts"]) -> Float[Tensor, "*n_prompts"]:
        """Return the calibrated margins."""
        return self.scale * margin + self.shift


def calibrate(margin: Float[Tensor, " n_prompts"], *, max_scale: float = MAX_SCALE) -> Calibration:
    """Fit scale and shift to the task loss of these margins by 16 steps of L-BFGS, in float64.

    Args:
        margin: log odds of the positive against the negative answer, in nats.
        max_scale: what the scale stays below; it is max_scale times a sigmoid.
    """
    margin = margin.detach().double().cpu()
    # Centred, and starting from a spread of 1, 16 steps are enough whatever the margins' size.
    centre, spread = margin.mean(), margin.std().clamp_min(MIN_SPREAD)
    weight = torch.logit((1 / (spread * max_scale)).clamp(max=0.9)).requires_grad_()
    offset = torch.zeros_like(weight).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, offset], max_iter=N_STEPS, tolerance_grad=MIN_GRADIENT, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = task_losses(max_scale * weight.sigmoid() * (margin - centre) + offset).mean()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    scale = max_scale * weight.sigmoid().item()
    return Calibration(scale, offset.item() - scale * centre.item())
