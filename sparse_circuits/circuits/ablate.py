"""Ablation as taps: what a circuit leaves out stands at its mean, at every position (Gao et al. 2025, appendix A.5)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import by_site
from sparse_circuits.kernels.mean_ablate import mean_ablate
from sparse_circuits.model import ModelConfig
from sparse_circuits.model.taps import Taps


def ablation_taps(kept: Bool[Tensor, " node"], means: Means, config: ModelConfig) -> Taps:
    """Return taps that freeze every node outside `kept` at its mean; sites kept whole stay untapped."""
    sites = by_site(kept.to(next(iter(means.sites.values())).device), config)
    return {site: _freeze(row, means.sites[site]) for site, row in sites.items() if not row.all()}


def _freeze(kept: Tensor, mean: Tensor) -> Callable[[Tensor], Tensor]:
    keep = kept.to(mean.dtype)
    frozen = mean * (1 - keep)
    return lambda value: torch.addcmul(frozen.to(value.dtype), value, keep.to(value.dtype))


def mask_taps(mask: Float[Tensor, " node"], means: Means, config: ModelConfig, *, temperature: float) -> Taps:
    """Return taps that ablate where the mask is not above 0, and through which the mask receives its gradient."""
    return {site: _masked(row, means.sites[site], temperature) for site, row in by_site(mask, config).items()}


def _masked(mask: Tensor, mean: Tensor, temperature: float) -> Callable[[Tensor], Tensor]:
    return lambda value: mean_ablate(value, mask, mean, temperature=temperature)
