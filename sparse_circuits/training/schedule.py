"""The learning rate over training: warm-up, linear decay, and the sharkfin's factor for L0."""

from __future__ import annotations

from sparse_circuits.training.config import OptimizerConfig


def learning_rate(progress: float, config: OptimizerConfig, *, l0_ratio: float = 1.0) -> float:
    """Return the learning rate at a share `progress` of training.

    Args:
        progress: from 0 to 1.
        config: peak, warm-up and whether L0 matters.
        l0_ratio: nonzeros at the target over nonzeros now, at most 1.

    Source: Gao et al. 2025, figure 11: linear warm-up, then linear decay to 0, times sqrt(L0_target / L0_now).
    """
    warm = progress / config.warmup if progress < config.warmup else 1.0
    decay = min(1.0, (1.0 - progress) / (1.0 - config.warmup))
    return config.lr * min(warm, decay) * (l0_ratio**0.5 if config.l0_factor else 1.0)
