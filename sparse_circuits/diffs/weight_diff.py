"""A weight diff: what a finetune changed, as a value that can be scaled, composed, saved and applied.

A change of a linear map's weight is held as two factors where it has them (LoRA), delta W = up @ down, and whole where it has
not. Two changes are composed without multiplying factors out: low ranks add up, so nothing is rounded that need not be.
A whole change is laid out as its model stores the weight, [in, out] in GPT-2; factors are always [out, in].
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.diffs.maps import weights_of
from sparse_circuits.errors import UserError
from sparse_circuits.model.store import read_tensors, write_tensors


@dataclass(frozen=True)
class LowRank:
    """A change of low rank, delta W = up @ down; whatever scale it was trained with is in `up`."""

    up: Float[Tensor, "n_out rank"]
    down: Float[Tensor, "rank n_in"]

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    @property
    def shape(self) -> torch.Size:
        """Of delta W, outputs first."""
        return torch.Size((self.up.shape[0], self.down.shape[1]))

    def matrix(self) -> Float[Tensor, "n_out n_in"]:
        """Return delta W, multiplied out in float32 or wider."""
        wide = torch.promote_types(self.up.dtype, torch.float32)
        return self.up.to(wide) @ self.down.to(wide)

    def norm(self) -> float:
        """Return the Frobenius norm of delta W, from the factors alone."""
        up, down = self.up.double(), self.down.double()
        return ((up.T @ up) * (down @ down.T)).sum().clamp_min(0).sqrt().item()


@dataclass(frozen=True)
class Whole:
    """A change of any rank, of a weight, a bias, a gain or a table."""

    delta: Float[Tensor, "*shape"]

    @property
    def shape(self) -> torch.Size:
        """As the model stores the parameter."""
        return self.delta.shape

    def matrix(self) -> Float[Tensor, "*shape"]:
        """Return the change."""
        return self.delta

    def norm(self) -> float:
        """Return the change's Frobenius norm."""
        return self.delta.double().norm().item()


Change = LowRank | Whole


@dataclass(frozen=True)
class WeightDiff:
    """What a finetune changed, by parameter name of its base (`layers.0.mlp.into.weight`).

    Every operation returns a new diff and leaves this one as it is.
    """

    changes: dict[str, Change]
    base: str
    """Hash or name of the model that it is a diff of."""
    about: dict[str, Any] = field(default_factory=dict)
    """Labels and recipe, as JSON values."""

    @property
    def is_low_rank(self) -> bool:
        """Whether every change has factors."""
        return all(isinstance(change, LowRank) for change in self.changes.values())

    def norms(self) -> dict[str, float]:
        """Return the Frobenius norm of the change of every parameter."""
        return {name: change.norm() for name, change in self.changes.items()}

    def norm(self) -> float:
        """Return the norm over all parameters together."""
        return sum(each**2 for each in self.norms().values()) ** 0.5

    def __mul__(self, factor: float) -> WeightDiff:
        """Return this diff, a number of times."""
        return replace(self, changes={name: _scaled(change, factor) for name, change in self.changes.items()})

    __rmul__ = __mul__

    def __neg__(self) -> WeightDiff:
        return self * -1.0

    def __add__(self, other: WeightDiff) -> WeightDiff:
        """Return both diffs together.

        Raises:
            UserError: they are diffs of different models, or change a weight one by factors and one without.
        """
        if self.base != other.base:
            raise UserError(f"One diff is of {named(self.base)}, the other of {named(other.base)}: compose diffs of one model.")
        names = dict.fromkeys([*self.changes, *other.changes])
        both = {name: [d.changes[name] for d in (self, other) if name in d.changes] for name in names}
        return replace(self, changes={name: _sum(name, each) for name, each in both.items()}, about={})

    def __sub__(self, other: WeightDiff) -> WeightDiff:
        return self + -other

    def to(self, device: torch.device | str) -> WeightDiff:
        """Return the diff on a device."""
        return replace(self, changes={name: _mapped(each, lambda t: t.to(device)) for name, each in self.changes.items()})

    def save(self, path: Path) -> None:
        """Write the diff to one file, atomically."""
        tensors = {f"{name}:{part}": tensor for name, change in self.changes.items() for part, tensor in vars(change).items()}
        write_tensors(path, tensors, kind="weight_diff", metadata={"base": self.base, "about": self.about})

    @classmethod
    def load(cls, path: Path) -> WeightDiff:
        """Read a diff.

        Raises:
            UserError: the file is missing, damaged, or no weight diff.
        """
        tensors, metadata = read_tensors(path, kind="weight_diff")
        parts: dict[str, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            parameter, _, part = name.rpartition(":")
            parts.setdefault(parameter, {})[part] = tensor
        changes = {name: Whole(**own) if "delta" in own else LowRank(**own) for name, own in parts.items()}
        return cls(changes, metadata["base"], metadata["about"])


def diff_between(base: nn.Module, finetuned: nn.Module, *, of: str, about: Mapping[str, Any] | None = None) -> WeightDiff:
    """Return what a finetune in memory has changed; parameters that are the same are left out.

    Args:
        base: the model before.
        finetuned: the model after.
        of: hash or name of the base.
        about: labels.

    Raises:
        UserError: the two do not have the same parameters.
    """
    before, after = (dict(weights_of(model).named_parameters()) for model in (base, finetuned))
    if odd := sorted(before.keys() ^ after.keys()):
        raise UserError(f"The two models do not have the same parameters ({odd[0]}): give a finetune of this very base.")
    changes: dict[str, Change] = {}
    for name, old in before.items():
        new = after[name]
        if old.shape != new.shape:
            raise UserError(f"{name} is {list(old.shape)} before, {list(new.shape)} after: give a finetune of this very base.")
        wide = torch.promote_types(old.dtype, torch.float32)
        delta = new.detach().to("cpu", wide) - old.detach().to("cpu", wide)
        if delta.any():
            changes[name] = Whole(delta)
    return WeightDiff(changes, of, dict(about or {}))


def named(base: str) -> str:
    """Return how a base is called in a sentence: a hash by its first digits, anything else as it is."""
    return base[:12] if re.fullmatch("[0-9a-f]{64}", base) else base


def _scaled(change: Change, factor: float) -> Change:
    return LowRank(change.up * factor, change.down) if isinstance(change, LowRank) else Whole(change.delta * factor)


def _sum(name: str, changes: list[Change]) -> Change:
    if len(changes) == 1:
        return changes[0]
    check_kind(name, changes)
    if len({change.shape for change in changes}) > 1:
        raise UserError(f"The diffs change {name} in different shapes: compose diffs of one model.")
    if isinstance(changes[0], LowRank):
        return LowRank(torch.cat([each.up for each in changes], dim=1), torch.cat([each.down for each in changes]))
    return Whole(sum(change.delta for change in changes))


def check_kind(name: str, changes: Sequence[Change]) -> None:
    """Refuse changes of a weight with factors beside changes without: some models store the weight the other way round.

    Raises:
        UserError: there are both.
    """
    if len({type(change) for change in changes}) > 1:
        raise UserError(f"One diff changes {name} by factors, another without: apply one within the other instead.")


def _mapped(change: Change, function: Callable[[Tensor], Tensor]) -> Change:
    return type(change)(**{part: function(tensor) for part, tensor in vars(change).items()})
