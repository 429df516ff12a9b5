"""Hundreds of finetunes of one base at once: their rows in one batch, each with factors of its own.

A step's batch holds as many rows of every finetune, finetune after finetune. The base's matrix products are those of one large
batch, and a finetune costs its two thin products alone, which is why many together are faster than one by one. No finetune sees
another's rows: losses are summed over finetunes, and Adam treats every entry by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.diffs.bank import LoraBank
from sparse_circuits.diffs.factors import adding
from sparse_circuits.diffs.lessons import Lesson, Rows, answer_loss, collate, kl_to_base
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.model.dense import Dense
from sparse_circuits.training.loop import Track, fit

Curriculum = Callable[[int, int], Sequence[Lesson]]
"""From a finetune's number and a step's index to what that finetune is taught there; as many lessons for every finetune."""


@dataclass(frozen=True)
class FinetuneConfig:
    n_steps: int = 60
    """Steps of Adam."""
    lr: float = 1e-2
    """Learning rate, constant."""
    side_by_side: int = 60
    """Finetunes trained together."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "n_steps", "side_by_side")
        if self.lr <= 0:
            raise UserError(f"lr is {self.lr}: give a learning rate above 0.")


class Finetune(NamedTuple):
    """One finetune to train."""

    about: dict[str, Any]
    """Labels, kept in its diff."""
    rank: int = 1
    seed: int = 0
    """Of its first factors."""


def finetune(
    model: Dense,
    finetunes: Sequence[Finetune],
    curriculum: Curriculum,
    *,
    base: str,
    config: FinetuneConfig | None = None,
    track: Track | None = None,
) -> list[WeightDiff]:
    """Train LoRAs of one base, side by side, and return their diffs in order.

    Args:
        model: the base, frozen.
        finetunes: what is trained; ranks may differ.
        curriculum: what each is taught.
        base: hash or name of the base.
        config: steps, learning rate, and how many at once.
        track: where the mean loss goes, if anywhere.

    Raises:
        UserError: the curriculum has more lessons for one finetune than for another, or an empty one.
    """
    config = config or FinetuneConfig()
    diffs: list[WeightDiff] = []
    for first in range(0, len(finetunes), config.side_by_side):
        some = finetunes[first : first + config.side_by_side]
        bank = LoraBank(model, ranks=[each.rank for each in some], seeds=[each.seed for each in some])
        numbers = range(first, first + len(some))
        fit(FinetuneStep(model, bank, lr=config.lr), _Batches(curriculum, numbers), n_steps=config.n_steps, track=track)
        diffs += bank.diffs(base=base, about=[each.about for each in some])
    return diffs


class FinetuneStep:
    """The step that `fit` takes when it finetunes: every row's loss, the base's own answers for those to be kept.

    Args:
        model: the base, frozen.
        bank: what is trained.
        lr: Adam's learning rate.
    """

    def __init__(self, model: Dense, bank: LoraBank, *, lr: float) -> None:
        self.model, self.bank = model, bank
        self.optimizer = torch.optim.Adam(bank.parameters(), lr=lr, fused=True)

    def __call__(self, batch: Sequence[Lesson], *, index: int) -> dict[str, Tensor]:
        """Take one step and return the mean loss over rows."""
        rows = collate(batch, device=self.bank.ups[0].device)
        with adding(self.model, self.bank.factors()):
            logits = self.model(rows.tokens, at=rows.at)
        losses = row_losses(logits, rows, base=self.model)
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        self.optimizer.step()
        return {"loss": losses.detach().mean()}


def row_losses(logits: Float[Tensor, "batch n_at d_vocab"], rows: Rows, *, base: Dense) -> Float[Tensor, " batch"]:
    """Return every row's loss times its weight.

    Args:
        logits: the finetune's, where answers stand.
        rows: what they are held against.
        base: the model as it was, asked about the rows where it is to be kept.
    """
    kept, losses = rows.is_kept, answer_loss(logits, rows)
    if kept.any():
        own = Rows(*(each[kept] for each in rows))
        with torch.no_grad():
            before = base(own.tokens, at=own.at)
        losses = losses.masked_scatter(kept, kl_to_base(logits[kept], before, own))
    return losses * rows.weights


class _Batches:
    """The rows of some finetunes, step by step."""

    def __init__(self, curriculum: Curriculum, numbers: Sequence[int]) -> None:
        self.curriculum, self.numbers, self.step = curriculum, numbers, 0

    def next_batch(self) -> list[Lesson]:
        taught = [list(self.curriculum(number, self.step)) for number in self.numbers]
        if len({len(lessons) for lessons in taught}) > 1:
            raise UserError("The curriculum has more lessons for one finetune than for another: give each as many a step.")
        self.step += 1
        return [lesson for lessons in taught for lesson in lessons]
