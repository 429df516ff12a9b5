"""Mean ablation in plain PyTorch: a step function forward, the slope of a sigmoid backward."""

import torch
from jaxtyping import Float
from torch import Tensor


def surrogate_step(mask: Float[Tensor, "*shape"], *, temperature: float = 1.0) -> Float[Tensor, "*shape"]:
    """Return 1 where the mask is above 0, else 0; the gradient is that of sigmoid(mask / temperature)."""
    soft = torch.sigmoid(mask / temperature)
    return (mask > 0).to(mask.dtype) + soft - soft.detach()


def mean_ablate(
    x: Float[Tensor, "*rows width"],
    mask: Float[Tensor, " width"],
    mean: Float[Tensor, " width"],
    *,
    temperature: float = 1.0,
) -> Float[Tensor, "*rows width"]:
    """Return x in the channels whose mask is above 0 and their mean in the others."""
    step = surrogate_step(mask, temperature=temperature)
    return step * x + (1 - step) * mean
