"""Does a circuit's node do in the circuit what it does in the model? Compared, and swapped between the prompts of a pair.

Source: Drori 2026 (attention patterns of circuits can differ from the model's own); interchange interventions as in causal
abstraction (Geiger et al. 2021). An interchange gives a node, at every position, the activation that it has on the pair's other
prompt: in the circuit what it has in the circuit, in the whole model what it has there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.activations import prompt_activations
from sparse_circuits.circuits.card import Interchange, NodeFidelity
from sparse_circuits.circuits.correlation import correlation
from sparse_circuits.circuits.evidence.patterns import attention_patterns, heads_of
from sparse_circuits.circuits.margin import (
    PROMPTS_AT_ONCE,
    Chunk,
    Start,
    answer_margins,
    chunks,
    record_chunk,
    run_through,
    site_before,
)
from sparse_circuits.circuits.nodes import Channels, list_nodes
from sparse_circuits.circuits.side_by_side import Workers
from sparse_circuits.model import Node, Transformer
from sparse_circuits.model.sites import FINAL
from sparse_circuits.model.taps import NO_TAPS, Taps, chain
from sparse_circuits.tasks import PairBatch, right_margins
from sparse_circuits.tasks.calibrate import Calibration

N_INTERCHANGED = 8
"""Pairs on which nodes are swapped."""


@torch.no_grad()
def node_fidelity(model: Transformer, batch: PairBatch, nodes: Channels, taps: Taps) -> list[NodeFidelity]:
    """Compare each node's activation under the circuit's taps with that in the unpruned model, over the prompts' tokens."""
    inside, whole = (prompt_activations(model, batch, nodes, taps=each) for each in (taps, NO_TAPS))
    return [
        NodeFidelity(str(Node(site, channel)), correlation(ours, theirs) or 0.0, _relative_error(ours, theirs))
        for site, channels in nodes.items()
        for channel, ours, theirs in zip(
            channels, *(each[site][:, channels].T.double() for each in (inside, whole)), strict=True
        )
    ]


def _relative_error(ours: Tensor, theirs: Tensor) -> float:
    size = theirs.norm().item()
    return (ours - theirs).norm().item() / size if size else 0.0


@torch.no_grad()
def pattern_errors(model: Transformer, batch: PairBatch, nodes: Channels, taps: Taps) -> dict[str, float]:
    """Return for every head in which the circuit has a node by how much its attention differs from the model's own.

    The mean, over the prompts' query positions, of the summed absolute difference of attention weights, the sink's included:
    from 0 to 2.
    """
    heads = heads_of(nodes, model.config)
    totals, n_queries = dict.fromkeys(heads, 0.0), 0
    for tokens, last in zip(batch.tokens.split(PROMPTS_AT_ONCE), batch.last.split(PROMPTS_AT_ONCE), strict=True):
        is_prompt = torch.arange(tokens.shape[1], device=tokens.device) <= last.unsqueeze(1)
        n_queries += int(is_prompt.sum())
        ours, theirs = (attention_patterns(model, tokens, heads, taps=each) for each in (taps, NO_TAPS))
        for head in heads:
            totals[head] += (ours[head] - theirs[head]).abs().sum(-1)[is_prompt].sum().item()
    return {str(head): total / n_queries for head, total in totals.items()}


@torch.no_grad()
def interchange(model: Transformer, batch: PairBatch, nodes: Channels, taps: Taps, calibration: Calibration) -> Interchange:
    """Swap nodes between the two prompts of a pair, one at a time and all together, in the circuit and in the whole model.

    On the first 8 pairs: two runs of the circuit and of the model for every node are many.
    """
    batch = batch.select(torch.arange(min(N_INTERCHANGED, batch.n_pairs), device=batch.last.device))
    calibrations = (calibration, Calibration())
    margins_of = [_swapped(model, batch, list(nodes), own) for own in (taps, NO_TAPS)]

    def answers(swapped: Channels) -> list[Tensor]:
        return [calibrated(margins(swapped)) for calibrated, margins in zip(calibrations, margins_of, strict=True)]

    def shifts(swapped: Channels) -> list[Tensor]:
        return [late - early for late, early in zip(answers(swapped), before, strict=True)]

    before = answers({})

    towards_other = -right_margins(torch.ones_like(before[0]))

    def towards(node: Node) -> list[float]:
        return [(shift * towards_other).mean().item() for shift in shifts({node.site: [node.channel]})]

    singles = list(Workers(towards, device=batch.last.device, n_ahead=2)(list_nodes(nodes)))
    predicted, found = torch.tensor(singles, dtype=torch.float64).T
    flips = [((early + shift) * early < 0).double().mean().item() for early, shift in zip(before, shifts(nodes), strict=True)]
    weight = predicted.abs()
    return Interchange(
        correlation=correlation(predicted, found) or 0.0,
        same_sign=((predicted * found > 0) * weight).sum().item() / max(weight.sum().item(), 1e-12),
        all_in_circuit=flips[0],
        all_in_model=flips[1],
    )


def _swapped(model: Transformer, batch: PairBatch, sites: list[str], taps: Taps) -> Callable[[Channels], Tensor]:
    """Return what gives the margins of a run in which nodes of these sites take the activations of the pair's other prompt.

    Such a run differs from the one under the taps alone only from the first site that has swapped nodes.
    """
    others_of, starts_of = {}, {}
    for chunk in chunks(batch):
        first = int(chunk.numbers[0])
        values = record_chunk(model, chunk, sites, taps=taps, at_ends=True)
        others_of[first] = {site: chunk.rows.swapped(value) for site, value in values.items()}
        starts_of[first] = run_through(model, chunk, taps=taps).streams

    def margins(channels: Channels) -> Float[Tensor, " n_prompts"]:
        def taps_of(pairs: Int[Tensor, " n_rows"]) -> Taps:
            values = others_of[int(pairs[0])]
            # Before the circuit's own taps: what cuts an edge has to see the swapped source.
            return chain({site: _taking(values[site], channels[site]) for site in channels}, taps)

        def start(chunk: Chunk) -> Start:
            starts = starts_of[int(chunk.numbers[0])]
            site = site_before(next(iter(channels), FINAL), starts)
            return Start(site, starts[site])

        return answer_margins(model, batch, taps=taps_of, start=start)

    return margins


def _taking(other: Tensor, channels: Iterable[int]) -> Callable[[Tensor], Tensor]:
    index = torch.tensor(list(channels), device=other.device)
    return lambda value: value.index_copy(-1, index, other[..., index])
