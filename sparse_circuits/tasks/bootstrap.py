"""Bootstrap intervals of a mean over pairs of prompts and over draws."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

N_BOOTSTRAP = 1000
COVERAGE = 0.95


def bootstrap_interval(values: Float[Tensor, "n_draws n_pairs"]) -> tuple[float, float]:
    """Return the interval of the mean (95 %) when draws and pairs are both resampled, 1,000 times, with a seed of its own."""
    n_draws, n_pairs = values.shape
    generator = torch.Generator().manual_seed(0)
    draws = torch.randint(n_draws, (N_BOOTSTRAP, n_draws), generator=generator)
    pairs = torch.randint(n_pairs, (N_BOOTSTRAP, n_pairs), generator=generator)
    counts = torch.zeros(N_BOOTSTRAP, n_draws).scatter_add_(1, draws, torch.ones(draws.shape)) / n_draws
    shares = torch.zeros(N_BOOTSTRAP, n_pairs).scatter_add_(1, pairs, torch.ones(pairs.shape)) / n_pairs
    means = torch.einsum("bd,dp,bp->b", counts.double(), values.double(), shares.double())
    tail = (1 - COVERAGE) / 2
    low, high = means.quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return low, high
