"""A finetune's changed weights as units that are on, off or in between, without ever touching the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import functional_call

from sparse_circuits.diffs.lessons import Lesson, answer_loss, collate
from sparse_circuits.diffs.support import changed
from sparse_circuits.diffs.weight_diff import WeightDiff, Whole
from sparse_circuits.model import Transformer


class Entries:
    """A finetune's changed weights in one row.

    Args:
        model: the base, of ours.
        diff: the finetune.
    """

    def __init__(self, model: Transformer, diff: WeightDiff) -> None:
        self.model, self.diff = model, diff
        own = dict(model.named_parameters())
        self.deltas = {name: delta for name, delta in changed(model, diff).items() if delta.any()}
        self.before = {name: own[name].detach() for name in self.deltas}
        self.places = {name: delta.flatten().nonzero().squeeze(1) for name, delta in self.deltas.items()}
        self.sizes = [len(places) for places in self.places.values()]
        self.n = sum(self.sizes)

    def weights(self, shares: Float[Tensor, " entry"]) -> dict[str, Tensor]:
        """Return the changed parameters, each weight moved by a share of its change."""
        found = {}
        for (name, places), own in zip(self.places.items(), shares.split(self.sizes), strict=True):
            delta = self.deltas[name]
            moved = torch.zeros_like(delta).flatten().scatter(0, places, own * delta.flatten()[places])
            found[name] = self.before[name] + moved.view_as(delta)
        return found

    def loss(self, shares: Float[Tensor, " entry"], lessons: Sequence[Lesson]) -> Float[Tensor, ""]:
        """Return the mean loss of examples, in nats a token."""
        rows = collate(lessons, device=shares.device)
        logits = functional_call(self.model, self.weights(shares), (rows.tokens,), {"at": rows.at})
        return answer_loss(logits, rows).mean()

    def only(self, kept: Bool[Tensor, " entry"]) -> WeightDiff:
        """Return the change of some of the weights."""
        changes = {}
        for name, after in self.weights(kept.float()).items():
            delta = after - self.before[name]
            if delta.any():
                changes[name] = Whole(delta)
        return WeightDiff(changes, self.diff.base, {**self.diff.about, "kind": "diff circuit"})

    def sizes_of_change(self) -> Float[Tensor, " entry"]:
        """Return by how much each weight has moved."""
        return torch.cat([self.deltas[name].flatten()[places].abs() for name, places in self.places.items()])


class Agreement(NamedTuple):
    """How far one set of changed weights is another."""

    precision: float
    """Share of the first that is in the second."""
    recall: float
    """Share of the second that is in the first."""


def agreement(found: WeightDiff, planted: WeightDiff) -> Agreement:
    """Return how far the weights that one diff changes are those that another does."""
    ours, theirs = _places(found), _places(planted)
    both = len(ours & theirs)
    return Agreement(both / max(1, len(ours)), both / max(1, len(theirs)))


def _places(diff: WeightDiff) -> set[tuple[str, int]]:
    changes = {name: change.matrix().flatten().nonzero().flatten().tolist() for name, change in diff.changes.items()}
    return {(name, place) for name, places in changes.items() for place in places}
