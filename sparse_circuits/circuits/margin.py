"""Running a model, or what ablation leaves of it, on a task's pairs, and scoring its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.side_by_side import side_by_side
from sparse_circuits.model import Transformer, record
from sparse_circuits.model.sites import FINAL, residual_sites
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import PairBatch, answer_difference, task_accuracy, task_losses

PROMPTS_AT_ONCE = 32

TapsOf = Callable[[Int[Tensor, " n_rows"], Int[Tensor, "n_rows pos"]], Taps]
"""Taps that differ from prompt to prompt: made for some rows of a batch and their tokens."""


class Chunk(NamedTuple):
    """Pairs that run together, cut to their longest prompt."""

    rows: Int[Tensor, " n_rows"]
    """The places of their prompts in the batch."""
    pairs: PairBatch


class Start(NamedTuple):
    """The residual stream at one site in an earlier run of the same prompts: where a run is taken up."""

    site: str
    residual: Float[Tensor, "n_rows pos d_model"]


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


def answer_margins(model: Transformer, batch: PairBatch, *, taps: Taps | TapsOf | None = None) -> Float[Tensor, " n_prompts"]:
    """Return for every prompt the log odds of the positive answer against the negative one.

    Pairs of similar length run together, so that little is spent on padding. Differentiable where gradients are on; where they
    are off, taps must not depend on the order in which prompts run.

    Args:
        taps: the same for all prompts, or made for some of them at a time.
    """
    parts, margins_of = list(chunks(batch)), partial(chunk_margins, model, taps=taps)
    # Threads know nothing of the caller's graph and autocast.
    is_plain = torch.is_grad_enabled() or torch.is_autocast_enabled(batch.tokens.device.type)
    margins = map(margins_of, parts) if is_plain else side_by_side(margins_of, parts, device=batch.tokens.device)
    return torch.cat(list(margins))[torch.cat([chunk.rows for chunk in parts]).argsort()]


def chunk_margins(
    model: Transformer, chunk: Chunk, *, taps: Taps | TapsOf | None, start: Start | None = None
) -> Float[Tensor, " n_rows"]:
    """Return the margins of prompts that run together, from where an earlier run is taken up; taps before have no effect."""
    own, some = _taps_for(chunk, taps), chunk.pairs
    if start is None:
        logits = model(some.tokens, taps=own, at=some.last)
    else:
        logits = model.run_from(start.site, start.residual, tokens=some.tokens, taps=own, at=some.last)
    return answer_difference(logits, some)


def residual_streams(model: Transformer, chunk: Chunk, *, taps: Taps | TapsOf) -> dict[str, Start]:
    """Return the residual stream before every sublayer, to take a run of the chunk up there."""
    sites = [site for site in residual_sites(model.config) if site != FINAL]
    values = record(model, chunk.pairs.tokens, sites, taps=_taps_for(chunk, taps))
    return {site: Start(site, value) for site, value in values.items()}


def _taps_for(chunk: Chunk, taps: Taps | TapsOf | None) -> Taps | None:
    return taps(chunk.rows, chunk.pairs.tokens) if callable(taps) else taps


def chunks(batch: PairBatch, order: Int[Tensor, " n_pairs"] | None = None) -> Iterator[Chunk]:
    """Yield the pairs in this order, so many together; without an order those of similar length, shortest first."""
    order = batch.last[: batch.n_pairs].argsort(stable=True) if order is None else order
    for pairs in order.split(PROMPTS_AT_ONCE // 2):
        some = batch.select(pairs)
        cut = replace(some, tokens=some.tokens[:, : int(some.last.max()) + 1])
        yield Chunk(torch.cat([pairs, pairs + batch.n_pairs]), cut)
