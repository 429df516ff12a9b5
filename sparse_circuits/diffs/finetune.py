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
from sparse_circuits.diffs.step import FactorStep, Losses
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.model.dense import Dense
from sparse_circuits.training.loop import Track, fit

Curriculum = Callable[[int, int], Sequence[Any]]
"""From a finetune's number and a step's index to its lessons, or preferences, of that step; as many for every finetune."""


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


def taught_losses(model: Dense, bank: LoraBank, batch: Sequence[Lesson]) -> Float[Tensor, " batch"]:
    """Return the loss of every lesson under its finetune.

    Args:
        model: the base.
        bank: the finetunes' factors.
        batch: as many lessons of every finetune, finetune after finetune.
    """
    rows = collate(batch, device=bank.ups[0].device)
    with adding(model, bank.factors()):
        logits = model(rows.tokens, at=rows.at)
    return row_losses(logits, rows, base=model)


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


def finetune(
    model: Dense,
    finetunes: Sequence[Finetune],
    curriculum: Curriculum,
    *,
    base: str,
    losses: Losses = taught_losses,
    config: FinetuneConfig | None = None,
    track: Track | None = None,
) -> list[WeightDiff]:
    """Train LoRAs of one base, side by side, and return their diffs in order.

    Args:
        model: the base, frozen.
        finetunes: what is trained; ranks may differ.
        curriculum: what each is taught.
        base: hash or name of the base.
        losses: what is minimised: of lessons, or `preference_losses` of preferences.
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
        step = FactorStep(model, bank, losses, lr=config.lr)
        fit(step, _Batches(curriculum, numbers), n_steps=config.n_steps, track=track)
        diffs += bank.diffs(base=base, about=[each.about for each in some])
    return diffs


class _Batches:
    """The rows of some finetunes, step by step."""

    def __init__(self, curriculum: Curriculum, numbers: Sequence[int]) -> None:
        self.curriculum, self.numbers, self.step = curriculum, numbers, 0

    def next_batch(self) -> list[Any]:
        taught = [list(self.curriculum(number, self.step)) for number in self.numbers]
        if len({len(lessons) for lessons in taught}) > 1:
            raise UserError("The curriculum has more lessons for one finetune than for another: give each as many a step.")
        self.step += 1
        return [lesson for lessons in taught for lesson in lessons]
