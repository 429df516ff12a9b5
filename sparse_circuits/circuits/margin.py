"""Running a model, or what ablation leaves of it, on a task's pairs, and scoring its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.model import Transformer, record
from sparse_circuits.model.sites import FINAL, residual_sites
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import PairBatch, answer_difference, task_accuracy, task_losses

PROMPTS_AT_ONCE = 32

TapsOf = Callable[[Int[Tensor, " n_rows"], Int[Tensor, "n_rows pos"]], Taps]
"""Taps that differ from prompt to prompt: made for some rows of a batch and their tokens."""


class Start(NamedTuple):
    """The residual stream at one site in an earlier run of a batch."""

    site: str
    residual: list[Float[Tensor, "n_rows pos d_model"]]
    """One for every chunk of prompts that run together."""


@dataclass(frozen=True)
class Score:
    """How well answers do, as means over prompts."""

    loss: float
    """Two-way cross-entropy of the right answer, in nats."""
    accuracy: float


def score(margin: Float[Tensor, " n_prompts"]) -> Score:
    """Score the margins of a batch of pairs."""
    return Score(task_losses(margin).mean().item(), task_accuracy(margin))


def pooled(margins: Float[Tensor, "n_runs n_prompts"]) -> Float[Tensor, " n_runs*n_prompts"]:
    """Return the margins of several runs of the same pairs as one batch of pairs: positive prompts first."""
    return rearrange(margins, "run (side pair) -> (side run pair)", side=2)


def answer_margins(
    model: Transformer, batch: PairBatch, *, taps: Taps | TapsOf | None = None, start: Start | None = None
) -> Float[Tensor, " n_prompts"]:
    """Return for every prompt the log odds of the positive answer against the negative one.

    Pairs of similar length run together, so that little is spent on padding. Differentiable where gradients are on.

    Args:
        taps: the same for all prompts, or made for some of them at a time.
        start: where an earlier run of the same batch is taken up; taps before that have no effect.
    """
    rows, margins = [], []
    for index, (those, some) in enumerate(chunks(batch)):
        own = taps(those, some.tokens) if callable(taps) else taps
        if start is None:
            logits = model(some.tokens, taps=own, at=some.last)
        else:
            logits = model.run_from(start.site, start.residual[index], tokens=some.tokens, taps=own, at=some.last)
        rows.append(those)
        margins.append(answer_difference(logits, some))
    return torch.cat(margins)[torch.cat(rows).argsort()]


def residual_streams(model: Transformer, batch: PairBatch, *, taps: Taps | TapsOf) -> dict[str, Start]:
    """Return the residual stream before every sublayer, to take a run up there."""
    sites = [site for site in residual_sites(model.config) if site != FINAL]
    found: dict[str, list[Tensor]] = {site: [] for site in sites}
    for rows, some in chunks(batch):
        own = taps(rows, some.tokens) if callable(taps) else taps
        for site, value in record(model, some.tokens, sites, taps=own).items():
            found[site].append(value)
    return {site: Start(site, residual) for site, residual in found.items()}


def chunks(batch: PairBatch) -> Iterator[tuple[Int[Tensor, " n_rows"], PairBatch]]:
    """Yield the pairs that run together, cut to their longest prompt, with their rows in the batch."""
    for pairs in batch.last[: batch.n_pairs].argsort(stable=True).split(PROMPTS_AT_ONCE // 2):
        some = batch.select(pairs)
        yield torch.cat([pairs, pairs + batch.n_pairs]), replace(some, tokens=some.tokens[:, : int(some.last.max()) + 1])
