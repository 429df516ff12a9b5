"""A few finetunes put together for a new task: weights learned on a handful of examples, without a gradient.

    up = sum_i w_i up_i,  down = sum_i w_i down_i,  w = argmin  loss on the examples + l1 x mean |w_i|

Which finetunes to put together is another question: those nearest to a finetune on the examples (`Pool.nearest`), or any.

Source: Huang et al. 2024, LoRAHub (arXiv 2307.13269), sections 3.3 and 3.4; they use CMA-ES, here it is scipy's COBYQA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize

from sparse_circuits.diffs.apply import applied
from sparse_circuits.diffs.lessons import Lesson, answer_loss, collate
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff
from sparse_circuits.errors import UserError
from sparse_circuits.model.dense import Dense

L1 = 0.05
LARGEST = 1.5
"""Weights run from -1.5 to 1.5."""


class Combined(NamedTuple):
    """Finetunes put together."""

    diff: WeightDiff
    weights: list[float]
    loss: float
    """On the examples, in nats a token."""


def combine(diffs: Sequence[WeightDiff], weights: Sequence[float]) -> WeightDiff:
    """Return the weighted sum of factors, not of products, as LoRAHub has it.

    Raises:
        UserError: there is no diff, ranks or maps differ, or one has no factors.
    """
    if not diffs:
        raise UserError("There is nothing to put together: give at least one finetune.")
    names = diffs[0].changes.keys()
    for diff in diffs:
        if not diff.is_low_rank or diff.changes.keys() != names:
            raise UserError("Factors are added map by map: give finetunes of low rank that change the same maps.")
        if {change.rank for change in diff.changes.values()} != {change.rank for change in diffs[0].changes.values()}:
            raise UserError("Factors of different ranks cannot be added: give finetunes of one rank.")
    changes = {}
    for name in names:
        own = [diff.changes[name] for diff in diffs]
        up = sum(weight * change.up for weight, change in zip(weights, own, strict=True))
        changes[name] = LowRank(up, sum(weight * change.down for weight, change in zip(weights, own, strict=True)))
    return WeightDiff(changes, diffs[0].base, {"weights": [float(weight) for weight in weights]})


@torch.no_grad()
def learn_weights(
    model: Dense, diffs: Sequence[WeightDiff], examples: Sequence[Lesson], *, n_evaluations: int = 80
) -> Combined:
    """Return the finetunes put together as fits a few examples best.

    Args:
        model: the base.
        diffs: of low rank, equal in maps and ranks.
        examples: of the new task.
        n_evaluations: forward passes over the examples.

    Raises:
        UserError: the diffs cannot be added, or there is no example.
    """
    rows = collate(examples, device=next(model.parameters()).device)

    def loss(weights: np.ndarray) -> float:
        with applied(model, combine(diffs, weights.tolist())):
            return answer_loss(model(rows.tokens, at=rows.at), rows).mean().item()

    found = minimize(
        lambda weights: loss(weights) + L1 * float(np.abs(weights).mean()),
        np.zeros(len(diffs)),
        method="COBYQA",
        bounds=[(-LARGEST, LARGEST)] * len(diffs),
        options={"maxfev": n_evaluations, "initial_tr_radius": 0.5},
    )
    return Combined(combine(diffs, found.x.tolist()), found.x.tolist(), loss(found.x))
