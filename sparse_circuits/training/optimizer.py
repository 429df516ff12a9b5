"""AdamW as the paper runs it: which parameters decay, and one scale for the whole gradient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.kernels.magnitude_prune import adamw_prune_many_
from sparse_circuits.sparsity.budget import Budget
from sparse_circuits.training.config import GradientRule, OptimizerConfig


def build_optimizer(parameters: Mapping[str, Tensor], config: OptimizerConfig) -> torch.optim.AdamW:
    """Return AdamW over two groups: weights and embeddings decay; biases, gains, sinks and the bigram table do not.

    Args:
        parameters: what is trained, under the names of the model's parameters.
        config: its settings.
    """
    decays = {name: name.endswith((".weight", ".table")) for name in parameters}
    groups = [
        {"params": [p for name, p in parameters.items() if decays[name] is decay], "weight_decay": share}
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


@torch.no_grad()
def step_and_project_(
    optimizer: torch.optim.AdamW,
    parameters: Mapping[str, Tensor],
    budgets: Mapping[str, Budget],
    *,
    lr: float,
    divisor: Float[Tensor, ""],
    density: float,
) -> None:
    """Take AdamW's step and bring every tensor back to its budget, on GPUs in one pass over weights, gradients and moments.

    Args:
        optimizer: holds the moments, which are those of its own `step`.
        parameters: what is trained, by name; their gradients are undefined afterwards.
        budgets: what each sparse tensor may keep.
        lr: learning rate of this step.
        divisor: what the gradient is divided by.
        density: how far annealing is from its target, 1 (dense) to 0 (at the target).
    """
    decays = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    states = [optimizer.state[p] for p in parameters.values()]
    for p, state in zip(parameters.values(), states, strict=True):
        if not state:
            state |= {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
        state["step"] += 1
    whole = [Budget(p.numel(), p.numel(), floor=0, neuron_axis=0, n_neurons=0) for p in parameters.values()]
    kept = [budgets.get(name, everything) for name, everything in zip(parameters, whole, strict=True)]
    adamw_prune_many_(
        list(parameters.values()),
        [p.grad for p in parameters.values()],
        [state["exp_avg"] for state in states],
        [state["exp_avg_sq"] for state in states],
        [budget.at(density) for budget in kept],
        floors=[budget.floor for budget in kept],
        neuron_axes=[budget.neuron_axis for budget in kept],
        weight_decays=[decays[p] for p in parameters.values()],
        lr=lr,
        betas=optimizer.defaults["betas"],
        eps=optimizer.defaults["eps"],
        step=states[0]["step"],
        grad_scale=divisor,
    )
