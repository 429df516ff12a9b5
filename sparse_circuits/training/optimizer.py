"""AdamW as the paper runs it: which parameters decay, and one scale for the whole gradient."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.model import Transformer
from sparse_circuits.training.config import GradientRule, OptimizerConfig


def build_optimizer(model: Transformer, config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW over two groups: weights and embeddings decay; biases, gains, sinks and the bigram table do not."""
    decays = {name: name.endswith((".weight", ".table")) for name, _ in model.named_parameters()}
    groups = [
        {"params": [p for name, p in model.named_parameters() if decays[name] is decay], "weight_decay": share}
        for decay, share in ((True, config.weight_decay), (False, 0.0))
    ]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), eps=config.eps, fused=True)


def gradient_rms(gradients: Iterable[Tensor]) -> Float[Tensor, ""]:
    """Return the root mean square over all entries of all gradients together."""
    gradients = list(gradients)
    norms = torch.stack(torch._foreach_norm(gradients))
    return norms.norm() / sum(gradient.numel() for gradient in gradients) ** 0.5


def gradient_divisor(rms: Float[Tensor, ""], rule: GradientRule) -> Float[Tensor, ""]:
    """Return what the whole gradient is divided by.

    Source: Gao et al. 2025, appendix A.2 and figure 16. `clip` is the paper's text: an RMS above 1 comes down to 1. `divide`
    is the released script: the RMS is always brought to 1 (with 1e-5 added, so that a vanishing gradient stays small).
    """
    match rule:
        case GradientRule.clip:
            return rms.clamp_min(1.0)
        case GradientRule.divide:
            return rms + 1e-5
