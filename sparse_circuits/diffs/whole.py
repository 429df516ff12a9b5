"""Finetunes of all of a model's parameters, one by one: diffs without factors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sparse_circuits.diffs.finetune import row_losses
from sparse_circuits.diffs.lessons import Lesson, collate
from sparse_circuits.diffs.weight_diff import WeightDiff, diff_between
from sparse_circuits.model import Transformer
from sparse_circuits.model.dense import Dense
from sparse_circuits.sparsity import Budget, project_
from sparse_circuits.sparsity.budget import is_sparse as is_pruned
from sparse_circuits.sparsity.budget import neuron_axis


def finetune_whole(
    model: Dense,
    lessons: Callable[[int], Sequence[Lesson]],
    *,
    base: str,
    n_steps: int = 60,
    lr: float = 1e-3,
    is_sparse: bool = False,
    about: dict[str, Any] | None = None,
) -> WeightDiff:
    """Train all parameters of a copy of the base, and return what has changed.

    Args:
        model: the base, which stays as it is.
        lessons: what is taught at a step.
        base: hash or name of the base.
        n_steps: steps of Adam.
        lr: its learning rate, constant.
        is_sparse: whether each tensor goes on having as many nonzeros as in the base, of ours: the largest after every step.
        about: labels.
    """
    tuned = copy.deepcopy(model).requires_grad_(True)
    budgets = own_budgets(model) if is_sparse else {}
    optimizer = torch.optim.Adam(tuned.parameters(), lr=lr, fused=True)
    for step in range(n_steps):
        rows = collate(lessons(step), device=next(tuned.parameters()).device)
        losses = row_losses(tuned(rows.tokens, at=rows.at), rows, base=model)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        optimizer.step()
        if budgets:
            project_(tuned, budgets, density=0.0)
    return diff_between(model, tuned, of=base, about={"lr": lr, **(about or {})})


def own_budgets(model: Transformer) -> dict[str, Budget]:
    """Return the nonzeros that every sparse tensor of a model has now, without a floor."""
    found = {}
    for name, tensor in model.named_parameters():
        if is_pruned(name):
            axis = neuron_axis(name)
            found[name] = Budget(tensor.numel(), int(tensor.count_nonzero()), 0, axis, tensor.shape[axis])
    return found
