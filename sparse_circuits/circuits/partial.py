"""Partial ablation: what is outside a circuit is removed at random, for every pair of prompts another part of it.

A circuit that the model uses holds everywhere between nothing and everything removed. One pass over a batch tries as many
parts as it has pairs: pair i has a rate r_i and of every node a variate u, and removes the outside nodes with u < r_i. An
edge's variate is the fractional part of the sum of its ends', which is as uniform; both ends are in the circuit, where theirs
are not in use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparse_circuits.circuits.ablate import StandIn, mixed
from sparse_circuits.circuits.cuts import cut_taps, scaled_cuts
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.margin import TapsOf
from sparse_circuits.circuits.nodes import by_site, count_nodes, mark, offsets
from sparse_circuits.circuits.subgraph import Subgraph, cut_edges
from sparse_circuits.model import Node, Transformer
from sparse_circuits.model.taps import Taps, chain

MIDDLE = (0.25, 0.75)
"""Rates at which circuits are most likely to fail: where nothing is removed the model answers, where all is, the circuit alone,
which has runs of its own."""


class Parts(NamedTuple):
    """A part of the model to remove for every pair of prompts."""

    rates: Float[Tensor, "n_pairs 1"]
    """Probability that something outside is removed."""
    variates: Float[Tensor, "n_pairs node"]
    """Uniform on [0, 1)."""


def draw_parts(model: Transformer, *, n_pairs: int, rate: float | None = None, seed: int) -> Parts:
    """Draw parts to remove, at one rate, or at rates that are themselves spread evenly over MIDDLE."""
    generator = torch.Generator().manual_seed(seed)
    even = MIDDLE[0] + (MIDDLE[1] - MIDDLE[0]) * (torch.randperm(n_pairs, generator=generator) + 0.5) / n_pairs
    rates = even if rate is None else torch.full((n_pairs,), rate)
    variates = torch.rand(n_pairs, count_nodes(model.config), generator=generator)
    device = model.embed.weight.device
    return Parts(rates.unsqueeze(1).to(device), variates.to(device))


def partial_taps(
    model: Transformer, subgraph: Subgraph, stand_in: StandIn, parts: Parts, *, among: Iterable[Edge] | None = None
) -> TapsOf:
    """Return taps that remove from every pair its part of what is outside the subgraph: nodes, and edges among the kept.

    `among` as `cut_edges`.
    """
    kept, cut = mark(subgraph.nodes, model.config).to(parts.rates.device), cut_edges(model, subgraph, among=among)

    def taps_of(pairs: Int[Tensor, " n_rows"]) -> Taps:
        rates, variates = parts.rates[pairs], parts.variates[pairs]
        spared = kept | (variates >= rates)
        nodes = {site: _spare(row, stand_in, site) for site, row in by_site(spared, model.config).items()}
        share = (_edge_variates(variates, cut, model, subgraph) < rates).to(model.embed.weight.dtype)
        return chain(nodes, cut_taps(model, scaled_cuts(cut, share), stand_in))

    return taps_of


def _spare(spared: Bool[Tensor, "n_rows width"], stand_in: StandIn, site: str) -> Callable[[Tensor], Tensor]:
    return lambda value: mixed(spared.unsqueeze(1), value, stand_in(site, value))


def _edge_variates(
    variates: Float[Tensor, "n_rows node"], edges: list[Edge], model: Transformer, subgraph: Subgraph
) -> Float[Tensor, "n_rows edge"]:
    """Return the variates of cut edges; what a merge has added to a weight goes and stays with the node that was merged."""
    start = offsets(model.config)

    def place(node: Node) -> int:
        return start[node.site] + node.channel

    sums = variates[:, [place(edge.source) for edge in edges]] + variates[:, [place(edge.target) for edge in edges]]
    found = sums.frac()
    listed = {edge[:2] for edge in subgraph.edges or ()}
    written_for = {Node.parse(merge.into): Node.parse(merge.node) for merge in subgraph.merges}
    for index, edge in enumerate(edges):
        if edge[:2] in listed:
            found[:, index] = variates[:, place(written_for[edge.source])]
    return found
