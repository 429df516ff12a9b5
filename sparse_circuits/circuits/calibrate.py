"""Calibration of a pruned model's answers (Gao et al. 2025, appendix A.5): margin' = scale margin + shift.

Pruning leaves the logits at the wrong size. Two numbers, fitted once on validation pairs, repair that; afterwards they stay
fixed. The scale is an exponential: were it allowed below 0, it would solve the swapped task all by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.tasks import task_losses

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


def calibrate(margin: Float[Tensor, " n_prompts"]) -> Calibration:
    """Fit scale and shift to the task loss of these margins by 16 steps of L-BFGS, in float64."""
    margin = margin.detach().double().cpu()
    centre, spread = margin.mean(), margin.std().clamp_min(MIN_SPREAD)
    # Starting from standardised margins makes 16 steps enough whatever their size.
    log_scale = (-spread.log()).requires_grad_()
    shift = (-centre / spread).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [log_scale, shift], max_iter=N_STEPS, tolerance_grad=MIN_GRADIENT, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = task_losses(log_scale.exp() * margin + shift).mean()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return Calibration(log_scale.exp().item(), shift.item())
