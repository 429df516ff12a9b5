"""A model with weight diffs: one for all rows of a batch, or each row its own; afterwards it is what it was.

Factors stay factors. What has none is added to the weight, in the weight's own precision or float32, for as long as the
context lasts. Our transformer's `loss` reads the unembedding's weight itself: a change of that has to come without factors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from sparse_circuits.diffs.factors import Factors, adding, stack
from sparse_circuits.diffs.maps import linear_map, weights_of
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole
from sparse_circuits.errors import UserError, nearest


@contextmanager
def applied(model: nn.Module, diff: WeightDiff) -> Iterator[None]:
    """Give a model a diff while the context lasts.

    Raises:
        UserError: the diff is of another model.
    """
    check_fits(diff, model)
    whole = {name: change for name, change in diff.changes.items() if isinstance(change, Whole)}
    factors = {name: stack([change]) for name, change in diff.changes.items() if isinstance(change, LowRank)}
    with ExitStack() as entered:
        entered.enter_context(adding(model, factors))
        entered.enter_context(_shifted(model, whole))
        yield


@contextmanager
def applied_by_row(model: nn.Module, diffs: Sequence[WeightDiff | None]) -> Iterator[None]:
    """Give every row of a batch a diff of its own while the context lasts; gradients reach the factors.

    Args:
        model: of ours, or of Hugging Face's.
        diffs: of low rank, one a row or one a run of rows, ranks as they come; None, and what a diff leaves alone: the base.
            A single one may be of any kind.

    Raises:
        UserError: a diff is of another model, or changes something without factors.
    """
    for diff in diffs:
        if diff is not None:
            check_fits(diff, model)
    is_single = len(diffs) == 1 and diffs[0] is not None
    with applied(model, diffs[0]) if is_single else adding(model, stack_diffs(diffs)):
        yield


def groups(diffs: Sequence[WeightDiff | None], *, at_once: int) -> list[list[int]]:
    """Return the numbers of diffs that can be in one pass: of low rank so many at once, any other alone."""
    alone = [n for n, diff in enumerate(diffs) if diff is not None and not diff.is_low_rank]
    others = [n for n in range(len(diffs)) if n not in set(alone)]
    return [others[first : first + at_once] for first in range(0, len(others), at_once)] + [[n] for n in alone]


def stack_diffs(diffs: Sequence[WeightDiff | None]) -> dict[str, Factors]:
    """Return diffs of low rank side by side, by the names of the weights that any of them changes.

    Raises:
        UserError: a diff changes something without factors.
    """
    for diff in diffs:
        for name, change in diff.changes.items() if diff is not None else ():
            if isinstance(change, Whole):
                raise UserError(
                    f"A diff changes {name} without factors: rows differ by LoRA alone, so apply this one by itself."
                )
    names = dict.fromkeys(name for diff in diffs if diff is not None for name in diff.changes)
    return {name: stack([None if diff is None else diff.changes.get(name) for diff in diffs]) for name in names}


def check_fits(diff: WeightDiff, model: nn.Module) -> None:
    """Refuse a diff of another model.

    Raises:
        UserError: the model lacks a parameter that the diff changes, or has it in another shape.
    """
    shapes = {name: tuple(p.shape) for name, p in weights_of(model).named_parameters()}
    for name, change in diff.changes.items():
        if name not in shapes:
            raise UserError(f'The model has no parameter "{name}"{nearest(name, shapes)}: the diff is of another model.')
        if isinstance(change, Whole):
            shape, own = tuple(change.delta.shape), shapes[name]
        else:
            shape, own = (change.up.shape[0], change.down.shape[1]), linear_map(model, name)[1:3]
        if shape != own:
            raise UserError(
                f"The diff changes {name} of shape {list(shape)}, and the model's is {list(own)}: the diff is of another model."
            )


@contextmanager
def _shifted(model: nn.Module, changes: dict[str, Whole]) -> Iterator[None]:
    """Add changes to parameters, and put back what stood there."""
    parameters: dict[str, Any] = dict(weights_of(model).named_parameters())
    before = {name: parameters[name].detach().clone() for name in changes}
    try:
        with torch.no_grad():
            for name, change in changes.items():
                own = parameters[name]
                own.copy_((own.to(torch.promote_types(own.dtype, torch.float32)) + change.delta.to(own.device)).to(own.dtype))
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].copy_(value)
