"""Exact magnitude pruning in plain PyTorch: a stable sort of the whole tensor, protected entries first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

WITHOUT_SCALE = ("mps",)
"""Devices whose fused AdamW ignores grad_scale in silence (mps: before torch 2.13)."""


def magnitude_mask(weight: Float[Tensor, "*shape"], l0: int, *, floor: int = 0, neuron_axis: int = 0) -> Bool[Tensor, "*shape"]:
    """Mark the l0 largest nonzero entries, ties going to the lower index, each neuron's `floor` largest before all others."""
    magnitude = weight.detach().abs()
    order = magnitude.flatten().argsort(descending=True, stable=True)
    if floor:
        by_neuron = magnitude.movedim(neuron_axis, 0)
        largest = by_neuron.argsort(dim=1, descending=True, stable=True)[:, :floor]
        protected = torch.zeros_like(by_neuron, dtype=torch.bool).scatter_(1, largest, True)
        protected = protected.movedim(0, neuron_axis) & (magnitude != 0)
        order = order[protected.flatten()[order].int().argsort(descending=True, stable=True)]
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device).scatter_(0, order[:l0], True)
    return mask.view(weight.shape) & (magnitude != 0)


def magnitude_prune_(weight: Float[Tensor, "*shape"], l0: int, *, floor: int = 0, neuron_axis: int = 0) -> None:
    """Zero all but the marked entries, in place."""
    weight.detach().masked_fill_(~magnitude_mask(weight, l0, floor=floor, neuron_axis=neuron_axis), 0)


def prune_many_(weights: Sequence[Tensor], l0s: Sequence[int], floors: Sequence[int], neuron_axes: Sequence[int]) -> None:
    """Prune one tensor after the other."""
    for weight, l0, floor, neuron_axis in zip(weights, l0s, floors, neuron_axes, strict=True):
        if l0 < weight.numel():
            magnitude_prune_(weight, l0, floor=floor, neuron_axis=neuron_axis)


def adamw_(
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    weight_decays: Sequence[float],
    numbers: Sequence[Tensor],
    grad_scale: Tensor | None,
) -> None:
    """Take the step of torch's own fused AdamW; numbers are lr, beta1, beta2, eps and the step's number."""
    lr, beta1, beta2, eps, step = (float(number) for number in numbers)
    count = torch.tensor(step, dtype=torch.float32, device=weights[0].device)
    scale = fused_scale(gradients, None if grad_scale is None else grad_scale.to(weights[0].device, torch.float32))
    for kind in set(kinds := [(decay, weight.dtype) for decay, weight in zip(weight_decays, weights, strict=True)]):
        chosen = [i for i, other in enumerate(kinds) if other == kind]
        state = [[group[i] for i in chosen] for group in (weights, gradients, exp_avgs, exp_avg_sqs)]
        torch._fused_adamw_(
            *state, [], [count] * len(chosen), lr=lr, beta1=beta1, beta2=beta2, weight_decay=kind[0], eps=eps,
            amsgrad=False, maximize=False, grad_scale=scale, found_inf=None,
        )  # fmt: skip


def fused_scale(gradients: Sequence[Tensor], grad_scale: Tensor | None) -> Tensor | None:
    """Return what torch's fused AdamW has to divide these gradients by; where it would not, divide them here, in place."""
    if grad_scale is None or gradients[0].device.type not in WITHOUT_SCALE:
        return grad_scale
    torch._foreach_div_(gradients, grad_scale)
    return None
