"""Mean ablation with a learned mask (Gao et al. 2025, appendix A.5).

Forward, with h = 1 where m > 0 and 0 elsewhere:       y = h x + (1 - h) mean
Backward, with s = sigmoid(m / t), g the gradient of y:
    dx = h g
    dm = s (1 - s) / t  sum over rows of g (x - mean)
The sum is the only costly part. It goes block by block of rows, so that g (x - mean) never leaves the cache; in float32 at
least, since it adds thousands of terms of either sign.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

BLOCK_ENTRIES = 1 << 16


def mean_ablate(
    x: Float[Tensor, "*rows width"],
    mask: Float[Tensor, " width"],
    mean: Float[Tensor, " width"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "*rows width"]:
    """Return x in the channels whose mask is above 0 and their mean in the others, the same in every row.

    Args:
        x: activations, finite.
        mask: one parameter per channel; its gradient is that of a sigmoid of this temperature.
        mean: what an ablated channel is frozen at.
        temperature: width of the surrogate gradient, above 0.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"mean_ablate needs a temperature above 0, got {temperature}: the paper's is 1.")
    return _MeanAblate.apply(x, mask, mean.to(x.dtype), temperature)


class _MeanAblate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, mean: Tensor, temperature: float) -> Tensor:
        kept = (mask > 0).to(x.dtype)
        ctx.save_for_backward(x, mask, mean, kept)
        ctx.temperature = temperature
        # One multiply-add a channel; torch.where costs several times as much on a CPU.
        return torch.addcmul(mean * (1 - kept), x, kept)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        x, mask, mean, kept = ctx.saved_tensors
        to_x, to_mask = ctx.needs_input_grad[:2]
        soft = torch.sigmoid(mask / ctx.temperature)
        slope = soft * (1 - soft) / ctx.temperature
        return (
            gradient * kept if to_x else None,
            slope * _effect(gradient, x, mean).to(mask.dtype) if to_mask else None,
            None,
            None,
        )


def _effect(gradient: Tensor, x: Tensor, mean: Tensor) -> Float[Tensor, " width"]:
    """Return the sum over rows of gradient x (x - mean): what switching each channel on would change, to first order."""
    width = x.shape[-1]
    gradient, x = gradient.reshape(-1, width), x.reshape(-1, width)
    wide = torch.promote_types(x.dtype, torch.float32)
    n_rows = max(1, BLOCK_ENTRIES // width) if x.device.type == "cpu" else len(x)
    total = torch.zeros(width, dtype=wide, device=x.device)
    for value, slope in zip(x.split(n_rows), gradient.split(n_rows), strict=True):
        total += ((value - mean).to(wide) * slope).sum(0)
    return total
