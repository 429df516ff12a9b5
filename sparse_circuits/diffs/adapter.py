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
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple

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
from sparse_circuits.training.loop import Checkpoints, Track, fit
from sparse_circuits.training.track import Tracks


@dataclass(frozen=True)
class AdapterConfig:
    rank: int = 16
    """Of the adapter."""
    lr: float = 1e-4
    """AdamW's learning rate, constant (3e-3 for toys)."""
    weight_decay: float = 0.01
    """AdamW's decay."""
    batch_size: int = 4
    """Finetunes a step."""
    n_epochs: int = 1
    """Passes over all samples."""
    unchanged: float = 0.1
    """Share of a batch without a finetune, one row at least, to be answered with `nothing`; 0: none."""
    seed: int = 0
    """Of the adapter's first factors and of the order of samples."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "rank", "batch_size", "n_epochs", of="adapter.")
        if self.lr <= 0:
            raise UserError(f"adapter.lr is {self.lr}: give a learning rate above 0.")
        if not 0 <= self.unchanged < 1:
            raise UserError(f"adapter.unchanged is {self.unchanged}: give a share of a batch, from 0 to below 1.")

    def n_unchanged(self, *, is_told: bool) -> int:
        """Return the rows of a batch without a finetune.

        Args:
            is_told: whether there is an answer for them.

        Raises:
            UserError: they leave no place for a finetune.
        """
        n = max(1, round(self.unchanged * self.batch_size)) if is_told and self.unchanged > 0 else 0
        if n == self.batch_size:
            raise UserError(
                f"A batch of {self.batch_size} with a share of {self.unchanged} unchanged has no finetune in it: raise"
                " adapter.batch_size, or lower adapter.unchanged."
            )
        return n

    def per_epoch(self, n_samples: int, *, is_told: bool) -> int:
        """Return the steps that one pass over the samples takes."""
        return -(-n_samples // (self.batch_size - self.n_unchanged(is_told=is_told)))


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
    track: Track | None = None,
    checkpoints: Checkpoints | None = None,
) -> WeightDiff:
    """Train the adapter of a base.

    Args:
        model: the base, frozen.
        samples: finetunes with question and label.
        base: hash or name of the base.
        nothing: what the unchanged base is to say; None: no batch has rows of it.
        validation: finetunes with labels that no sample has; the epoch that says them best is returned, without any the last.
        config: rank, steps and learning rate.
        track: where losses go, if anywhere.
        checkpoints: what saves and restores the training, if anything.

    Returns:
        The adapter, as a diff of the base.

    Raises:
        UserError: there is no sample, or no place for one in a batch.
        Interrupted: after Ctrl-C or SIGTERM, when the training has been saved.
    """
    config = config or AdapterConfig()
    if not samples:
        raise UserError("There is no finetune to learn from: give at least one sample.")
    bank = LoraBank(model, ranks=[config.rank], seeds=[config.seed], bound=math.sqrt(6 / config.rank))
    step = AdapterStep(model, bank, config, validation)
    per_epoch = config.per_epoch(len(samples), is_told=nothing is not None)
    fit(
        step,
        _Shuffled(samples, config, nothing=nothing),
        n_steps=config.n_epochs * per_epoch,
        track=track or Tracks([]),
        evaluate=step.validate if validation else None,
        evaluate_every=per_epoch,
        checkpoints=checkpoints,
    )
    step.take_best()
    (adapter,) = bank.diffs(base=base, about=[{"kind": "adapter", "n_samples": len(samples)}])
    return adapter


class AdapterStep(FactorStep):
    """One step of the adapter, which remembers the epoch that was best on validation.

    Args:
        model: the base.
        bank: the adapter's factors.
        config: how they are trained.
        validation: finetunes with labels that are never learned.
    """

    def __init__(self, model: Dense, bank: LoraBank, config: AdapterConfig, validation: Sequence[Sample]) -> None:
        super().__init__(model, bank, adapter_losses, lr=config.lr, weight_decay=config.weight_decay)
        self.validation, self.batch_size = validation, config.batch_size
        self.best_loss, self.best = torch.tensor(math.inf), self._copy()

    @torch.no_grad()
    def validate(self) -> dict[str, Tensor]:
        """Return the mean loss over validation, in nats a token."""
        n, losses = len(self.validation), []
        for first in range(0, n, self.batch_size):
            batch = [self.validation[number] for number in range(first, min(first + self.batch_size, n))]
            losses.append(adapter_losses(self.model, self.bank, batch))
        loss = torch.cat(losses).mean().cpu()
        if loss < self.best_loss:
            self.best_loss, self.best = loss, self._copy()
        return {"validation_loss": loss}

    def take_best(self) -> None:
        """Go back to the best epoch; without validation, stay with the last."""
        if self.best_loss < math.inf:
            self.bank.load_state_dict(self.best)

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | {f"best:{name}": p for name, p in self.best.items()} | {"best_loss": self.best_loss}

    def load_tensors(self, held: dict[str, Tensor]) -> None:
        super().load_tensors(held)
        self.best_loss, self.best = held["best_loss"], {name: held[f"best:{name}"] for name in self.best}

    def _copy(self) -> dict[str, Tensor]:
        return {name: p.detach().clone() for name, p in self.bank.state_dict().items()}


def adapter_losses(model: Dense, bank: LoraBank, batch: Sequence[Sample]) -> Float[Tensor, " batch"]:
    """Return the cross-entropy of every sample's label under its finetune with the adapter, in nats a token."""
    rows = collate([sample.lesson for sample in batch], device=bank.ups[0].device)
    with ExitStack() as entered:
        entered.enter_context(applied_by_row(model, [sample.diff for sample in batch]))
        entered.enter_context(adding(model, bank.factors()))
        return answer_loss(model(rows.tokens, at=rows.at), rows)


class _Shuffled:
    """Samples in a new order every epoch, and among them some without a finetune."""

    def __init__(self, samples: Sequence[Sample], config: AdapterConfig, *, nothing: Lesson | None) -> None:
        self.samples, self.nothing = samples, nothing
        self.n_unchanged = config.n_unchanged(is_told=nothing is not None)
        self.n_changed = config.batch_size - self.n_unchanged
        self.random, self.left = random.Random(config.seed), list[int]()

    def next_batch(self) -> list[Sample]:
        if not self.left:
            self.left = self.random.sample(range(len(self.samples)), len(self.samples))
        numbers, self.left = self.left[: self.n_changed], self.left[self.n_changed :]
        # By number: thousands of finetunes of a large base are read as they come.
        return [*(self.samples[number] for number in numbers), *[Sample(None, self.nothing)] * self.n_unchanged]

    def state(self) -> dict[str, Any]:
        version, internal, gauss = self.random.getstate()
        return {"random": [version, list(internal), gauss], "left": self.left}

    def load_state(self, state: dict[str, Any]) -> None:
        version, internal, gauss = state["random"]
        self.random.setstate((version, tuple(internal), gauss))
        self.left = list(state["left"])
