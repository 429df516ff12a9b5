"""A model with weight diffs: one for all rows of a batch, or each row its own; afterwards it is what it was.

Factors stay factors: a linear map's output gets up (down x), row by row where rows differ, ranks filled up with zeros. What has
no factors is added to the weight, in the weight's own precision or float32, for as long as the context lasts. Our transformer's
`loss` reads the unembedding's weight itself: a change of that has to come without factors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from einops import einsum
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole, check_fits
from sparse_circuits.errors import UserError

WEIGHT = ".weight"


@contextmanager
def applied(model: nn.Module, diff: WeightDiff) -> Iterator[None]:
    """Give a model a diff while the context lasts.

    Raises:
        UserError: the diff is of another model.
    """
    check_fits(diff, model)
    whole = {name: change for name, change in diff.changes.items() if isinstance(change, Whole)}
    factors = {name: [change] for name, change in diff.changes.items() if isinstance(change, LowRank)}
    with ExitStack() as stack:
        for name, changes in factors.items():
            handle = _linear(model, name).register_forward_hook(_adding(_stacked(changes)))
            stack.callback(handle.remove)
        stack.enter_context(_shifted(model, whole))
        yield


@contextmanager
def applied_by_row(model: nn.Module, diffs: Sequence[WeightDiff]) -> Iterator[None]:
    """Give every row of a batch a diff of its own while the context lasts; gradients reach the factors.

    Args:
        diffs: of low rank, one a row, ranks as they come; a row whose diff leaves a map alone has it as it is.

    Raises:
        UserError: a diff is of another model, or changes something without factors.
    """
    for diff in diffs:
        check_fits(diff, model)
        if odd := [name for name, change in diff.changes.items() if isinstance(change, Whole)]:
            raise UserError(f"A diff changes {odd[0]} without factors: rows differ by LoRA alone, so apply this one by itself.")
    with ExitStack() as stack:
        for name in dict.fromkeys(name for diff in diffs for name in diff.changes):
            stacked = _stacked([diff.changes.get(name) for diff in diffs])
            stack.callback(_linear(model, name).register_forward_hook(_adding(stacked)).remove)
        yield


class Stacked:
    """Factors of a map, one pair for every row of a batch, or one for all."""

    def __init__(self, up: Float[Tensor, "rows n_out rank"], down: Float[Tensor, "rows rank n_in"]) -> None:
        self.up, self.down = up, down

    def __call__(self, x: Float[Tensor, "batch *pos n_in"]) -> Float[Tensor, "batch *pos n_out"]:
        """Return up (down x), each row by its own factors."""
        up, down = self.up.to(x.dtype), self.down.to(x.dtype)
        if len(up) == 1:
            return x @ down[0].T @ up[0].T
        if len(up) != len(x):
            raise UserError(f"{len(up)} diffs were given for a batch of {len(x)} rows: give one a row.")
        inner = einsum(x, down, "row ... n_in, row rank n_in -> row ... rank")
        return einsum(inner, up, "row ... rank, row n_out rank -> row ... n_out")


def _stacked(changes: Sequence[LowRank | None]) -> Stacked:
    """Return factors of equal rank, those of lower rank filled up with zeros, those that are not there all zeros."""
    some = next(change for change in changes if change is not None)
    rank = max(change.rank for change in changes if change is not None)
    ups, downs = [], []
    for change in changes:
        up = some.up.new_zeros(some.up.shape[0], 0) if change is None else change.up
        down = some.down.new_zeros(0, some.down.shape[1]) if change is None else change.down
        missing = rank - up.shape[1]
        ups.append(nn.functional.pad(up, (0, missing)))
        downs.append(nn.functional.pad(down, (0, 0, 0, missing)))
    return Stacked(torch.stack(ups), torch.stack(downs))


def _adding(stacked: Stacked) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + stacked(inputs[0]).to(output.dtype)

    return hook


def _linear(model: nn.Module, name: str) -> nn.Linear:
    module = model.get_submodule(name.removesuffix(WEIGHT))
    if not isinstance(module, nn.Linear):
        raise UserError(f"{name} is no weight of a linear map, so a change of it has no factors: give it whole.")
    return module


@contextmanager
def _shifted(model: nn.Module, changes: dict[str, Whole]) -> Iterator[None]:
    """Add changes to parameters, and put back what stood there."""
    parameters: dict[str, Any] = dict(model.named_parameters())
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
