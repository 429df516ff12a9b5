"""Excess kurtosis of the final residual stream (Gao et al. 2025, figure 10): it rises as the weights' L0 falls.

With the central moments m2 and m4 of a sample, the excess kurtosis is m4 / m2^2 - 3: 0 for a normal distribution, high where
few values are large and most are small. Samples are
- each channel of `final_resid` (before the last norm) over all tokens,
- all channels and tokens pooled, about their one common mean.
Tokens are read once; sums of the first four powers are kept in float64. They lose digits as (mean / standard deviation)^4
grows: with a ratio of 10, twelve digits are left.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.training.loop import Batches

POWERS = (1, 2, 3, 4)
SMALLEST_VARIANCE = 1e-12  # of the mean square; below, a channel does not vary but for rounding


class Kurtosis(NamedTuple):
    """Excess kurtosis of the final residual stream."""

    pooled: float
    """Of all entries as one sample."""
    mean: float
    """Mean over the channels that vary."""
    channels: Float[Tensor, " d_model"]
    """Of each channel over tokens, in float64; nan where it does not vary."""
    n_tokens: int
    """Tokens that were read."""


@torch.no_grad()
def measure_kurtosis(model: Transformer, batches: Batches, *, n_tokens: int) -> Kurtosis:
    """Return the excess kurtosis of the final residual stream over at least `n_tokens` tokens.

    Args:
        model: the transformer.
        batches: as for pretraining, Int[Tensor, "batch pos_plus_one"]; the last token of a row is only a target.
        n_tokens: tokens to read, at least 1; whole batches are read.

    Raises:
        UserError: no token is asked for.

    Source: Gao et al. 2025, figure 10.
    """
    if n_tokens < 1:
        raise UserError(f"Kurtosis over {n_tokens} tokens does not exist: give at least 1.")
    device = model.embed.weight.device
    sums = torch.zeros(len(POWERS), model.config.d_model, dtype=torch.float64, device=device)
    n_seen = 0
    while n_seen < n_tokens:
        tokens = batches.next_batch()[:, :-1].to(device)
        stream = model.residual(tokens).flatten(0, 1).double()
        sums += torch.stack([stream.pow(power).sum(0) for power in POWERS])
        n_seen += tokens.numel()
    channels = excess_kurtosis(sums / n_seen)
    pooled = excess_kurtosis((sums / n_seen).mean(1, keepdim=True))
    return Kurtosis(pooled.item(), channels.nanmean().item(), channels.cpu(), n_seen)


def excess_kurtosis(moments: Float[Tensor, "4 n_samples"]) -> Float[Tensor, " n_samples"]:
    """Return the excess kurtosis of samples from the means of their first four powers; nan where a sample does not vary."""
    first, second, third, fourth = moments
    variance = second - first**2
    central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    return torch.where(variance > SMALLEST_VARIANCE * second, central / variance**2 - 3, torch.nan)
