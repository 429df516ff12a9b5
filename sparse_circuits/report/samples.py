"""How the nodes of circuits behave on ordinary text: a sample of the tokens that their model was trained on.

tokens   the sample, row after row: places in the payload's `texts`
n_pos    tokens of a row
nodes    {node: {silent, histogram, quantiles, examples}} in the whole model, for every node of every circuit of it
         silent: share of the tokens at which it is exactly 0
         histogram: {low, high, counts}: the activations that are not 0, in 32 bins of equal width
         quantiles: its activation at each of QUANTILES, all tokens counted
         examples: {at, values}: for each quantile three tokens there, as positions in `tokens` (fewer where it is 0), and
         packed.py's signed rows: the activations of the 20 tokens on either side, 0 beyond the ends of the row
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.nodes import list_nodes
from sparse_circuits.model import Node, record
from sparse_circuits.report.numbers import nine_digits
from sparse_circuits.report.packed import pack_signed
from sparse_circuits.report.texts import Texts

QUANTILES = (1.0, 0.999, 0.99, 0.9, 0.5, 0.1, 0.01, 0.001, 0.0)
N_EXAMPLES, N_AROUND, N_BINS = 3, 20, 32
N_SAMPLE_TOKENS = 16_384

Sample = Int[Tensor, "n_rows pos"]


@torch.no_grad()
def sample_behaviour(circuits: Iterable[Circuit], sample: Sample, texts: Texts) -> dict[str, Any]:
    """Return how the nodes of a model's circuits behave on a sample.

    Args:
        circuits: of one model, at least one.
        sample: token ids; 16,384 of them are read.
        texts: where tokens' texts go.
    """
    circuits = list(circuits)
    model, tokenizer = circuits[0].model, circuits[0].tokenizer
    nodes = sorted({node for circuit in circuits for node in list_nodes(circuit.nodes)})
    n_rows, n_pos = min(len(sample), max(1, N_SAMPLE_TOKENS // sample.shape[1])), min(sample.shape[1], model.config.n_ctx)
    sample = sample[:n_rows, :n_pos].to(model.embed.weight.device)
    values = record(model, sample.long(), sorted({node.site for node in nodes})) if nodes else {}
    return {
        "tokens": texts.places(sample.flatten().tolist(), tokenizer),
        "n_pos": n_pos,
        "nodes": {str(node): _behaviour(values, node) for node in nodes},
    }


def _behaviour(values: dict[str, Tensor], node: Node) -> dict[str, Any]:
    rows = values[node.site][:, :, node.channel].float().cpu()
    flat = rows.flatten()
    order = flat.argsort()
    at = [_near(order, flat, quantile, n_pos=rows.shape[1]) for quantile in QUANTILES]
    return {
        "silent": nine_digits((flat == 0).double().mean().item()),
        "histogram": _histogram(flat[flat != 0]),
        "quantiles": [nine_digits(flat[order[_rank(order, quantile)]].item()) for quantile in QUANTILES],
        "examples": {"at": at, "values": pack_signed(_windows(rows, [place for places in at for place in places]))},
    }


def _rank(order: Tensor, quantile: float) -> int:
    return round(quantile * (len(order) - 1))


def _near(order: Int[Tensor, " n"], flat: Float[Tensor, " n"], quantile: float, *, n_pos: int) -> list[int]:
    """Return tokens at a quantile, of rows that differ where there are such nearby; none where the node is silent."""
    middle = _rank(order, quantile)
    reach = max(N_EXAMPLES, len(order) // 1000)
    nearby = order[max(0, middle - reach) : middle + reach + 1].tolist()
    nearby.sort(key=lambda place: abs(flat[place].item() - flat[order[middle]].item()))
    chosen: dict[int, int] = {}
    for place in nearby:
        if flat[place] and place // n_pos not in chosen and len(chosen) < N_EXAMPLES:
            chosen[place // n_pos] = place
    return list(chosen.values())


def _histogram(values: Float[Tensor, " n"]) -> dict[str, Any] | None:
    if not len(values):
        return None
    low, high = values.min().item(), values.max().item()
    counts = torch.histc(values, bins=N_BINS, min=low, max=high)
    return {"low": nine_digits(low), "high": nine_digits(high), "counts": counts.int().tolist()}


def _windows(rows: Float[Tensor, "n_rows pos"], places: list[int]) -> Float[Tensor, "n_examples width"]:
    padded, n_pos = pad(rows, (N_AROUND, N_AROUND)), rows.shape[1]
    windows = [padded[place // n_pos, place % n_pos : place % n_pos + 2 * N_AROUND + 1] for place in places]
    return torch.stack(windows) if windows else rows.new_zeros(0, 2 * N_AROUND + 1)
