"""Exact magnitude pruning in plain PyTorch: one stable sort of the whole tensor, protected entries first."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def magnitude_mask(weight: Float[Tensor, "*shape"], l0: int, *, floor: int = 0, neuron_axis: int = 0) -> Bool[Tensor, "*shape"]:
    """Mark the l0 largest nonzero entries, ties going to the lower index, each neuron's `floor` largest before all others."""
    magnitude = weight.detach().abs()
    rank = magnitude.clone()
    if floor:
        by_neuron = magnitude.movedim(neuron_axis, 0)
        largest = by_neuron.argsort(dim=1, descending=True, stable=True)[:, :floor]
        protected = torch.zeros_like(by_neuron, dtype=torch.bool).scatter_(1, largest, True)
        rank[protected.movedim(0, neuron_axis) & (magnitude > 0)] = float("inf")
    order = rank.flatten().argsort(descending=True, stable=True)[:l0]
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device).scatter_(0, order, True)
    return mask.view(weight.shape) & (magnitude > 0)


def magnitude_prune_(weight: Float[Tensor, "*shape"], l0: int, *, floor: int = 0, neuron_axis: int = 0) -> None:
    """Zero all but the marked entries, in place."""
    weight.detach().masked_fill_(~magnitude_mask(weight, l0, floor=floor, neuron_axis=neuron_axis), 0)
