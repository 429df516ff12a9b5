"""Ablation as taps: what a circuit leaves out is replaced, at every position (Gao et al. 2025, appendices A.5 and E).

By its mean over pretraining tokens, by zero, or by what it was at random pretraining positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import by_site
from sparse_circuits.errors import UserError
from sparse_circuits.kernels.mean_ablate import mean_ablate, surrogate_step
from sparse_circuits.model import ModelConfig, Transformer, node_sites, record
from sparse_circuits.model.taps import Held, Kept, Taps


class Ablation(Enum):
    """What an ablated node is replaced by."""

    mean = "mean"
    zero = "zero"
    resample = "resample"


StandIn = Callable[[str, Tensor], Tensor]
"""For a site and its value, what stands in for ablated channels: one row, or a value of the same shape."""


def stand_in(ablation: Ablation, model: Transformer, means: Means, *, seed: int = 0) -> StandIn:
    """Return what replaces ablated nodes.

    Raises:
        UserError: `resample` with means that hold no sample of pretraining tokens.
    """
    match ablation:
        case Ablation.mean:
            return means
        case Ablation.zero:
            return means.zeroed()
        case Ablation.resample:
            return next(resampled(model, means, [seed]))
    raise AssertionError(ablation)


def resampled(model: Transformer, means: Means, seeds: Iterable[int]) -> Iterator[StandIn]:
    """Yield, for every seed, activations of random pretraining positions: at every prompt, position and site another row.

    Raises:
        UserError: the means hold no sample of pretraining tokens.
    """
    if means.sample is None:
        raise UserError("ablation=resample needs pretraining tokens, which these means do not hold: measure the means again.")
    device = model.embed.weight.device
    with torch.no_grad():
        values = record(model, means.sample.to(device), node_sites(model.config))
    rows = {site: value.flatten(0, 1) for site, value in values.items()}
    for seed in seeds:
        yield partial(_draw_rows, rows, torch.Generator(device).manual_seed(seed))


def _draw_rows(rows: dict[str, Tensor], generator: torch.Generator, site: str, value: Tensor) -> Tensor:
    chosen = torch.randint(len(rows[site]), value.shape[:-1], generator=generator, device=value.device)
    return rows[site][chosen].to(value.dtype)


def ablation_taps(kept: Bool[Tensor, " node"], stand_in: StandIn, config: ModelConfig) -> Taps:
    """Return taps that replace every node outside `kept`; sites kept whole stay untapped."""
    return {site: _replaced(row, stand_in, site) for site, row in by_site(kept, config).items() if not row.all()}


def _replaced(kept: Tensor, stand_in: StandIn, site: str) -> Callable[[Tensor], Tensor]:
    if isinstance(stand_in, Means):
        return Kept(kept, stand_in.sites[site]) if kept.any() else Held(stand_in.sites[site])
    return lambda value: mixed(kept.to(value.device), value, stand_in(site, value))


def mixed(kept: Bool[Tensor, "*kept"], value: Float[Tensor, "*value"], other: Tensor) -> Float[Tensor, "*value"]:
    """Return the value where it is kept, the other elsewhere; both finite."""
    kept = kept.to(value.dtype)
    return torch.addcmul(other * (1 - kept), value, kept)  # torch.where costs several times as much


def mask_taps(mask: Float[Tensor, " node"], stand_in: StandIn, config: ModelConfig, *, temperature: float) -> Taps:
    """Return taps that ablate where the mask is not above 0, and through which the mask receives its gradient."""
    return {site: _masked(row, stand_in, site, temperature) for site, row in by_site(mask, config).items()}


def _masked(mask: Tensor, stand_in: StandIn, site: str, temperature: float) -> Callable[[Tensor], Tensor]:
    def tap(value: Tensor) -> Tensor:
        other = stand_in(site, value)
        if other.ndim == 1:
            return mean_ablate(value, mask, other, temperature=temperature)
        return torch.lerp(other, value, surrogate_step(mask, temperature=temperature).to(value.dtype))

    return tap


def soft_taps(share: Float[Tensor, " node"], stand_in: StandIn, config: ModelConfig) -> Taps:
    """Return taps that keep a share of every node and replace the rest, differentiable in the shares."""

    def blend(row: Tensor, site: str) -> Callable[[Tensor], Tensor]:
        return lambda value: torch.lerp(stand_in(site, value).expand_as(value), value, row.to(value.dtype))

    return {site: blend(row, site) for site, row in by_site(share, config).items()}
