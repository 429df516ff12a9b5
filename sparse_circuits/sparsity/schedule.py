"""The path of the nonzero count while training (Gao et al. 2025, appendix A.2, figure 25)."""

from __future__ import annotations

import math

from sparse_circuits.sparsity.config import Anneal, SparsityConfig


def density(progress: float, config: SparsityConfig, *, target_share: float) -> float:
    """Return how far annealing still is from its target: 1 while dense, 0 from `anneal_end` on.

    Args:
        progress: share of training done, from 0 to 1.
        config: the path.
        target_share: nonzeros over entries at the target; the power law is straight in log-log of share against progress.
    """
    if config.anneal is Anneal.none or progress >= config.anneal_end or target_share >= 1:
        return 0.0
    if progress <= config.anneal_start:
        return 1.0
    if config.anneal is Anneal.linear:
        return (config.anneal_end - progress) / (config.anneal_end - config.anneal_start)
    if config.anneal is Anneal.power_law:
        done = math.log(progress / config.anneal_start) / math.log(config.anneal_end / config.anneal_start)
        return (target_share**done - target_share) / (1 - target_share)
    raise AssertionError(config.anneal)
