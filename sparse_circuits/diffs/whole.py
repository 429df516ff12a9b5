"""Finetunes of all of a model's parameters, one by one: diffs without factors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch

from sparse_circuits.diffs.finetune import row_losses
from sparse_circuits.diffs.lessons import Lesson, collate
from sparse_circuits.diffs.weight_diff import WeightDiff, diff_between
from sparse_circuits.model.dense import Dense


def finetune_whole(
    model: Dense,
    lessons: Callable[[int], Sequence[Lesson]],
    *,
    base: str,
    n_steps: int = 60,
    lr: float = 1e-3,
    about: dict[str, Any] | None = None,
) -> WeightDiff:
    """Train all parameters of a copy of the base, and return what has changed.

    Args:
        model: the base, which stays as it is.
        lessons: what is taught at a step.
        base: hash or name of the base.
        n_steps: steps of Adam.
        lr: its learning rate, constant.
        about: labels.
    """
    tuned = copy.deepcopy(model).requires_grad_(True)
    optimizer = torch.optim.Adam(tuned.parameters(), lr=lr, fused=True)
    for step in range(n_steps):
        rows = collate(lessons(step), device=next(tuned.parameters()).device)
        losses = row_losses(tuned(rows.tokens, at=rows.at), rows, base=model)
        optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        optimizer.step()
    return diff_between(model, tuned, of=base, about={"lr": lr, **(about or {})})
