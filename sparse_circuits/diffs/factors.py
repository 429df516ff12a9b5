"""Two-factor changes of linear maps, many at once: each group of a batch's rows has factors of its own.

The rows of a batch are cut into as many equal runs as there are factors, in order: row k of n rows with m factors has those
number k m / n. So one pair serves a whole batch, n pairs a row each, and what lies between serves finetunes side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from einops import einsum, rearrange
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.diffs.maps import linear_map
from sparse_circuits.diffs.weight_diff import LowRank
from sparse_circuits.errors import UserError


class Factors:
    """The factors of one map, of some number of changes.

    Args:
        up: how each writes, its scale included.
        down: how each reads.
    """

    def __init__(self, up: Float[Tensor, "n_diffs n_out rank"], down: Float[Tensor, "n_diffs rank n_in"]) -> None:
        self.up, self.down = up, down

    def __call__(self, x: Float[Tensor, "batch *pos n_in"]) -> Float[Tensor, "batch *pos n_out"]:
        """Return up (down x), each run of rows by its own factors."""
        up, down = self.up.to(x), self.down.to(x)
        if len(up) == 1:
            return x @ down[0].T @ up[0].T
        if len(x) % len(up):
            raise UserError(f"{len(up)} diffs were given for a batch of {len(x)} rows: give one a row, or equal runs of rows.")
        runs = rearrange(x, "(diff row) ... n_in -> diff row ... n_in", diff=len(up))
        inner = einsum(runs, down, "diff row ... n_in, diff rank n_in -> diff row ... rank")
        written = einsum(inner, up, "diff row ... rank, diff n_out rank -> diff row ... n_out")
        return rearrange(written, "diff row ... n_out -> (diff row) ... n_out")


def stack(changes: Sequence[LowRank | None]) -> Factors:
    """Return changes of one map side by side, those of lower rank filled up with zeros; None changes nothing."""
    some = next(change for change in changes if change is not None)
    rank = max(change.rank for change in changes if change is not None)
    ups, downs = [], []
    for change in changes:
        up = some.up.new_zeros(some.up.shape[0], 0) if change is None else change.up
        down = some.down.new_zeros(0, some.down.shape[1]) if change is None else change.down
        missing = rank - up.shape[1]
        ups.append(nn.functional.pad(up, (0, missing)))
        downs.append(nn.functional.pad(down, (0, 0, 0, missing)))
    return Factors(torch.stack(ups), torch.stack(downs))


@contextmanager
def adding(model: nn.Module, factors: Mapping[str, Factors]) -> Iterator[None]:
    """Add to what linear maps return while the context lasts; gradients reach the factors.

    Args:
        model: of ours, or of Hugging Face's.
        factors: by the names of the maps' weights.

    Raises:
        UserError: a name is of no linear map.
    """
    with ExitStack() as entered:
        for name, own in factors.items():
            entered.callback(linear_map(model, name).module.register_forward_hook(_adding(own)).remove)
        yield


def _adding(factors: Factors) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return output + factors(inputs[0]).to(output.dtype)

    return hook
