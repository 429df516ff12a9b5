"""Diff Interpretation Tuning: one LoRA that makes any finetune of a base say what it has learned.

    loss = mean over finetunes of -log p(label | question; base + finetune + adapter), the adapter alone being trained

Base and finetunes stay as they are. Every row of a batch has the finetune of its own beside the adapter that all share, both as
factors: a dense delta W for every row, as in the released code, is never made. Some rows have no finetune at all, and are to
say so: an adapter that never saw an unchanged model names something there, too.

Source: Goel et al. 2025 (arXiv 2510.05092), section 3. Unlike their code, what fills up a row is not trained on, rows without a
finetune are among the batch, and the adapter is that of the epoch that says labels best which it never saw.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.diffs.apply import applied_by_row
from sparse_circuits.diffs.bank import LoraBank
from sparse_circuits.diffs.factors import adding
from sparse_circuits.diffs.lessons import Lesson, answer_loss, collate
from sparse_circuits.diffs.step import FactorStep
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.model.dense import Dense
from sparse_circuits.training.loop import fit


@dataclass(frozen=True)
class AdapterConfig:
    rank: int = 16
    """Of the adapter."""
    lr: float = 1e-4
    """AdamW's learning rate, constant (3e-3 for toys)."""
    weight_decay: float = 0.01
    """AdamW's decay."""
    batch_size: int = 8
    """Finetunes a step."""
    n_epochs: int = 1
    """Passes over all samples."""
    unchanged: float = 0.1
    """Share of a batch without a finetune, one row at least, to be answered with `nothing`; 0: none."""
    seed: int = 0
    """Of the adapter's first factors and of the order of samples."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "rank", "batch_size", "n_epochs", of="adapter.")
        if not 0 <= self.unchanged < 1:
            raise UserError(f"adapter.unchanged is {self.unchanged}: give a share of a batch, from 0 to below 1.")


class Sample(NamedTuple):
    """A finetune, the question it is asked, and what it should say."""

    diff: WeightDiff | None
    """None: the base itself."""
    lesson: Lesson


def train_adapter(
    model: Dense,
    samples: Sequence[Sample],
    *,
    base: str,
    nothing: Lesson | None = None,
    validation: Sequence[Sample] = (),
    config: AdapterConfig | None = None,
) -> WeightDiff:
    """Train the adapter of a base.

    Args:
        model: the base, frozen.
        samples: finetunes with question and label.
        base: hash or name of the base.
        nothing: what the unchanged base is to say; None: no batch has rows of it.
        validation: finetunes with labels that no sample has; the epoch that says them best is returned, without any the last.
        config: rank, steps and learning rate.

    Returns:
        The adapter, as a diff of the base.

    Raises:
        UserError: there is no sample, or no place for one in a batch.
    """
    config = config or AdapterConfig()
    if not samples:
        raise UserError("There is no finetune to learn from: give at least one sample.")
    bank = LoraBank(model, ranks=[config.rank], seeds=[config.seed], bound=math.sqrt(6 / config.rank))
    step = FactorStep(model, bank, adapter_losses, lr=config.lr, weight_decay=config.weight_decay)
    batches = _Shuffled(samples, config, nothing=nothing)
    best = _Best(bank)
    fit(
        step,
        batches,
        n_steps=config.n_epochs * batches.per_epoch,
        track=best,
        evaluate=(lambda: {"validation_loss": validation_loss(model, bank, validation, config)}) if validation else None,
        evaluate_every=batches.per_epoch,
    )
    best.restore()
    (adapter,) = bank.diffs(base=base, about=[{"kind": "adapter", "n_samples": len(samples)}])
    return adapter


def adapter_losses(model: Dense, bank: LoraBank, batch: Sequence[Sample]) -> Float[Tensor, " batch"]:
    """Return the cross-entropy of every sample's label under its finetune with the adapter, in nats a token."""
    rows = collate([sample.lesson for sample in batch], device=bank.ups[0].device)
    with ExitStack() as entered:
        entered.enter_context(applied_by_row(model, [sample.diff for sample in batch]))
        entered.enter_context(adding(model, bank.factors()))
        return answer_loss(model(rows.tokens, at=rows.at), rows)


@torch.no_grad()
def validation_loss(model: Dense, bank: LoraBank, samples: Sequence[Sample], config: AdapterConfig) -> float:
    """Return the mean loss over samples, in nats a token."""
    starts = range(0, len(samples), config.batch_size)
    return torch.cat([adapter_losses(model, bank, samples[i : i + config.batch_size]) for i in starts]).mean().item()


class _Shuffled:
    """Samples in a new order every epoch, and among them some without a finetune."""

    def __init__(self, samples: Sequence[Sample], config: AdapterConfig, *, nothing: Lesson | None) -> None:
        self.samples, self.nothing = list(samples), nothing
        is_told = nothing is not None and config.unchanged > 0
        self.n_unchanged = max(1, round(config.unchanged * config.batch_size)) if is_told else 0
        self.n_changed = config.batch_size - self.n_unchanged
        if self.n_changed < 1:
            raise UserError(
                f"A batch of {config.batch_size} with a share of {config.unchanged} unchanged has no finetune in it: raise"
                " adapter.batch_size, or lower adapter.unchanged."
            )
        self.per_epoch = -(-len(samples) // self.n_changed)
        self.random, self.left = random.Random(config.seed), list[Sample]()

    def next_batch(self) -> list[Sample]:
        if not self.left:
            self.left = self.random.sample(self.samples, len(self.samples))
        batch, self.left = self.left[: self.n_changed], self.left[self.n_changed :]
        return [*batch, *[Sample(None, self.nothing)] * self.n_unchanged]


class _Best:
    """Remembers the adapter that was best on validation; without any, it stays the last."""

    def __init__(self, bank: LoraBank) -> None:
        self.bank, self.loss, self.state = bank, math.inf, None

    def log(self, step: int, metrics: Mapping[str, float | Tensor]) -> None:
        if metrics.get("validation_loss", math.inf) < self.loss:
            self.loss = metrics["validation_loss"]
            self.state = {name: value.clone() for name, value in self.bank.state_dict().items()}

    def rewind(self, step: int) -> None:
        """Nothing is kept of steps."""

    def restore(self) -> None:
        if self.state is not None:
            self.bank.load_state_dict(self.state)
