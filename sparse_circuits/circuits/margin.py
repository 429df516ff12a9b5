"""Running a model, or what ablation leaves of it, on a task's pairs, and scoring its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.branch import Branched, branched, row_lengths
from sparse_circuits.circuits.side_by_side import side_by_side
from sparse_circuits.model import Transformer, record
from sparse_circuits.model.layout import laid_out
from sparse_circuits.model.sites import FINAL, residual_sites
from sparse_circuits.model.taps import Taps, chain, looks
from sparse_circuits.tasks import PairBatch, answer_difference, task_accuracy, task_losses

PAIRS_AT_ONCE = 16
PROMPTS_AT_ONCE = 2 * PAIRS_AT_ONCE

TapsOf = Callable[[Int[Tensor, " n_rows"]], Taps]
"""Taps that differ from pair to pair: made for some pairs of a batch, by their numbers; each runs as one row."""


class Chunk(NamedTuple):
    """Pairs that run together."""

    numbers: Int[Tensor, " n_rows"]
    """Their places in the batch."""
    pairs: PairBatch
    rows: Branched


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


def answer_margins(
    model: Transformer,
    batch: PairBatch,
    *,
    taps: Taps | TapsOf | None = None,
    start: Callable[[Chunk], Start] | None = None,
) -> Float[Tensor, " n_prompts"]:
    """Return for every prompt the log odds of the positive answer against the negative one.

    Pairs of similar length run together, so that little is spent on padding. Differentiable where gradients are on; where they
    are off, taps must not depend on the order in which prompts run.

    Args:
        taps: the same for all pairs, or made for some of them at a time.
        start: where each part of an earlier run is taken up; None: from the tokens.
    """
    parts = list(chunks(batch))

    def margins_of(chunk: Chunk) -> Float[Tensor, " n_prompts"]:
        return chunk_margins(model, chunk, taps=taps, start=start and start(chunk))

    # Threads know nothing of the caller's graph and autocast.
    is_plain = torch.is_grad_enabled() or torch.is_autocast_enabled(batch.tokens.device.type)
    margins = map(margins_of, parts) if is_plain else side_by_side(margins_of, parts, device=batch.tokens.device)
    return margins_in_order(parts, margins)


def margins_in_order(parts: Iterable[Chunk], margins: Iterable[Tensor]) -> Float[Tensor, " n_prompts"]:
    """Return the margins of a batch that ran in parts."""
    of_pairs = torch.cat([rearrange(margin, "(side pair) -> pair side", side=2) for margin in margins])
    return rearrange(of_pairs[torch.cat([chunk.numbers for chunk in parts]).argsort()], "pair side -> (side pair)")


def rows_in_order(parts: Iterable[Chunk], values: Iterable[Tensor]) -> Float[Tensor, "n_pairs longest width"]:
    """Return a site's values in a batch that ran in parts; behind the end of a row there are ones, which no norm minds."""
    parts, values = list(parts), list(values)
    n_pairs, longest = sum(len(value) for value in values), max(value.shape[1] for value in values)
    rows = values[0].new_ones(n_pairs, longest, values[0].shape[2])
    for chunk, value in zip(parts, values, strict=True):
        rows[chunk.numbers, : value.shape[1]] = value
    return rows


def chunk_margins(
    model: Transformer, chunk: Chunk, *, taps: Taps | TapsOf | None, start: Start | None = None
) -> Float[Tensor, " n_prompts"]:
    """Return the margins of pairs that run together, from where an earlier run is taken up; taps before have no effect."""
    own, rows = _taps_for(chunk, taps), chunk.rows
    with laid_out(rows.layout):
        if start is None:
            logits = model(rows.tokens, taps=own, at=rows.ends)
        else:
            logits = model.run_from(start.site, start.residual, tokens=rows.tokens, taps=own, at=rows.ends)
    return answer_difference(rearrange(logits, "pair side vocab -> (side pair) vocab"), chunk.pairs)


def record_chunk(
    model: Transformer, chunk: Chunk, sites: Iterable[str], *, taps: Taps | TapsOf | None = None, at_ends: bool = False
) -> dict[str, Float[Tensor, "n_rows pos_or_2 width"]]:
    """Record sites while pairs run together; where only the ends are needed, from the last attention's output on at these."""
    with laid_out(chunk.rows.layout):
        at = chunk.rows.ends if at_ends else None
        return record(model, chunk.rows.tokens, sites, taps=_taps_for(chunk, taps), at=at)


class Passed(NamedTuple):
    """What a run leaves behind."""

    margins: Float[Tensor, " n_prompts"]
    streams: dict[str, Float[Tensor, "n_rows pos d_model"]]
    """The residual stream before every sublayer, where the run can be taken up."""


def run_through(model: Transformer, chunk: Chunk, *, taps: Taps | TapsOf) -> Passed:
    """Run pairs that run together and keep the residual stream on the way."""
    streams: dict[str, Tensor] = {}
    own = chain(_taps_for(chunk, taps), looks(streams, (site for site in residual_sites(model.config) if site != FINAL)))
    margins, rows = chunk_margins(model, chunk, taps=own), chunk.rows
    # Behind the last attention only the ends were run, and no run that is taken up there reads any other position.
    *_, last = streams
    every, row = streams[last].new_ones(streams["0.resid_in"].shape), torch.arange(len(rows.ends), device=rows.ends.device)
    streams[last] = every.index_put((row.unsqueeze(1), rows.ends), streams[last])
    return Passed(margins, streams)


def site_before(site: str, starts: Iterable[str]) -> str:
    """Return where to take up a run that changes nothing before this node site: where its sublayer reads the stream.

    The last norm's is taken up before the last sublayer.
    """
    if site == FINAL:
        return list(starts)[-1]
    layer, sublayer, _ = site.split(".")
    return f"{layer}.{'resid_in' if sublayer == 'attn' else 'resid_mid'}"


def _taps_for(chunk: Chunk, taps: Taps | TapsOf | None) -> Taps | None:
    return taps(chunk.numbers) if callable(taps) else taps


def chunks(batch: PairBatch, together: Iterable[Int[Tensor, " n_rows"]] | None = None) -> Iterator[Chunk]:
    """Yield pairs that run together, as they are numbered; None: those of similar length, longest first.

    Side by side, what is long must not come last.
    """
    if together is None:
        together = row_lengths(batch).argsort(stable=True, descending=True).split(PAIRS_AT_ONCE)
    for numbers in together:
        pairs = batch.select(numbers)
        yield Chunk(numbers, pairs, branched(pairs))
