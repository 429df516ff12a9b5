"""The projection after every optimizer step: each tensor back to its budget of nonzeros."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sparse_circuits.kernels.magnitude_prune import magnitude_prune_many_
from sparse_circuits.model import Transformer
from sparse_circuits.sparsity.budget import Budget


@torch.no_grad()
def project_(model: Transformer, budgets: Mapping[str, Budget], *, density: float) -> None:
    """Zero the smallest entries of every sparse tensor, in place, leaving exactly its budget at this point of annealing.

    Args:
        model: the model to prune.
        budgets: what each tensor may keep.
        density: how far annealing is from its target, 1 (dense) to 0 (at the target).

    Source: Gao et al. 2025, appendix A.2. Neurons keep their `floor` largest entries inside the budget.
    """
    parameters = dict(model.named_parameters())
    magnitude_prune_many_(
        [parameters[name] for name in budgets],
        [budget.at(density) for budget in budgets.values()],
        floors=[budget.floor for budget in budgets.values()],
        neuron_axes=[budget.neuron_axis for budget in budgets.values()],
    )
