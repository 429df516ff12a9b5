"""Mean ablation with a learned mask (Gao et al. 2025, appendix A.5).

Forward, with h = 1 where m > 0 and 0 elsewhere:       y = h x + (1 - h) mean
Backward, with s = sigmoid(m / t), g the gradient of y:
    dx = h g
    dm = s (1 - s) / t  sum over rows of g (x - mean)
The sum is what switching a channel on would change, to first order. It is taken in float32 at least, since it adds thousands
of terms of either sign, and in the pass that gives dx, so that g (x - mean) is never stored.
"""

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, library

from sparse_circuits.kernels.backend import implementation


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
        mean: what an ablated channel is frozen at; it gets no gradient.
        temperature: width of the surrogate gradient, above 0.

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"mean_ablate needs a temperature above 0, got {temperature}: the paper's is 1.")
    return _mean_ablate(x, mask, mean.detach().to(x.dtype), temperature)


def _on(x: Tensor) -> ModuleType:
    return implementation("mean_ablate", x.device)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1]).contiguous()


@library.custom_op("sparse_circuits::mean_ablate", mutates_args=())
def _mean_ablate(x: Tensor, mask: Tensor, mean: Tensor, temperature: float) -> Tensor:
    return _on(x).mean_ablate_forward(_rows(x), mask, mean).view(x.shape)


@library.custom_op("sparse_circuits::mean_ablate_backward", mutates_args=())
def _mean_ablate_backward(dout: Tensor, x: Tensor, mask: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    dx, effect = _on(x).mean_ablate_backward(_rows(dout), _rows(x), mask, mean)
    return dx.view(x.shape), effect


_mean_ablate.register_fake(lambda x, mask, mean, temperature: x.new_empty(x.shape))
_mean_ablate_backward.register_fake(
    lambda dout, x, mask, mean: (x.new_empty(x.shape), mask.new_empty(mask.shape, dtype=_wide(x.dtype)))
)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, float], output: Tensor) -> None:
    *tensors, ctx.temperature = inputs
    ctx.save_for_backward(*tensors)


def _differentiate(ctx: Any, dout: Tensor) -> tuple[Tensor, Tensor, None, None]:
    x, mask, mean = ctx.saved_tensors
    dx, effect = _mean_ablate_backward(dout, x, mask, mean)
    soft = torch.sigmoid(mask / ctx.temperature)
    return dx, (soft * (1 - soft) / ctx.temperature * effect).to(mask.dtype), None, None


_mean_ablate.register_autograd(_differentiate, setup_context=_keep)
