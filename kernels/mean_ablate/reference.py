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


def mean_ablate_forward(
    x: Float[Tensor, "n_rows width"], mask: Float[Tensor, " width"], mean: Float[Tensor, " width"]
) -> Float[Tensor, "n_rows width"]:
    """Return x with the channels whose mask is not above 0 at their mean."""
    return torch.where(mask > 0, x, mean)


def mean_ablate_backward(
    dout: Float[Tensor, "n_rows width"],
    x: Float[Tensor, "n_rows width"],
    mask: Float[Tensor, " width"],
    mean: Float[Tensor, " width"],
) -> tuple[Float[Tensor, "n_rows width"], Float[Tensor, " width"]]:
    """Return the gradient of x and, of each channel, the sum over rows of dout (x - mean)."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return torch.where(mask > 0, dout, 0), (dout.to(wide) * (x.to(wide) - mean.to(wide))).sum(0)
