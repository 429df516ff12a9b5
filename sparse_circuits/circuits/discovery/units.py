"""What masks are learned over: all nodes of a model, or the edges of a subgraph."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparse_circuits.circuits.ablate import StandIn, ablation_taps, mask_taps, soft_taps
from sparse_circuits.circuits.cuts import cut_taps, scaled_cuts
from sparse_circuits.circuits.discovery.masks import MaskConfig
from sparse_circuits.circuits.discovery.objective import Objective, choose_removed
from sparse_circuits.circuits.nodes import by_site, count_nodes, mark
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.kernels.mean_ablate import surrogate_step
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.model.taps import Taps, chain


class Units(NamedTuple):
    """What a mask is over, and how a mask, or shares from 0 to 1, becomes taps."""

    n_units: int
    masked: Callable[[Float[Tensor, " unit"]], Taps]
    """Taps through which a mask receives its gradient."""
    shared: Callable[[Float[Tensor, " unit"]], Taps]
    """Taps that keep a share of every unit."""


def node_units(model: Transformer, stand_in: StandIn, config: MaskConfig) -> Units:
    """Return all nodes of a model as units."""
    return Units(
        count_nodes(model.config),
        lambda mask: mask_taps(mask, stand_in, model.config, temperature=config.heaviside_temp),
        lambda share: soft_taps(share, stand_in, model.config),
    )


def edge_units(
    model: Transformer, stand_in: StandIn, config: MaskConfig, subgraph: Subgraph, *, generator: torch.Generator
) -> Units:
    """Return the edges of a subgraph as units, the nodes outside it removed as the objective says.

    The adversary chooses among edges only: nodes outside are removed as `partial` draws them.
    """
    kept = mark(subgraph.nodes, model.config).to(model.embed.weight.device)

    def taps(share: Float[Tensor, " unit"]) -> Taps:
        cuts = scaled_cuts(subgraph.edges, 1 - share)
        return chain(ablation_taps(kept | ~removed_nodes(), stand_in, model.config), cut_taps(model, cuts, stand_in))

    def removed_nodes() -> Bool[Tensor, " node"]:
        objective = Objective.full if config.objective is Objective.full else Objective.partial
        return choose_removed(objective, kept, lambda share: share.sum(), generator=generator)

    return Units(len(subgraph.edges), lambda mask: taps(surrogate_step(mask, temperature=config.heaviside_temp)), taps)


def tied_qk(config: ModelConfig) -> Int[Tensor, " node"]:
    """Return for every node the number of its parameter, a layer's k channels sharing those of its q channels."""
    tie = torch.arange(count_nodes(config))
    sites = by_site(tie, config)
    for layer in range(config.n_layers):
        sites[f"{layer}.attn.k"][:] = sites[f"{layer}.attn.q"]
    return tie.unique(return_inverse=True)[1]
