"""What is measured of a model's sparsity: nonzeros, and neurons that no longer do anything."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.model import Transformer, node_sites, record
from sparse_circuits.sparsity.budget import is_sparse


class L0(NamedTuple):
    """Nonzero and all entries of the sparse tensors, gains and sinks counted as nonzero, the bigram table left out."""

    nonzero: int
    total: int

    @property
    def fraction(self) -> float:
        return self.nonzero / self.total


@torch.no_grad()
def l0_counts(model: Transformer) -> dict[str, int]:
    """Return the nonzero entries of every sparse tensor."""
    return {name: int(p.count_nonzero()) for name, p in model.named_parameters() if is_sparse(name)}


def l0_of(model: Transformer) -> L0:
    """Return the model's nonzeros against its size, over everything but the bigram table."""
    sizes = {name: p.numel() for name, p in model.named_parameters() if name != "bigram"}
    sparse = l0_counts(model)
    return L0(sum(sparse.get(name, size) for name, size in sizes.items()), sum(sizes.values()))


@torch.no_grad()
def dead_fractions(model: Transformer, batches: Iterable[Int[Tensor, "batch pos"]]) -> dict[str, float]:
    """Return, for each kind of node site, the share of channels that are zero at every token of the batches.

    Figure 12 and appendix A.2: dead neurons are the method's main waste, so they are counted and reported.
    """
    alive: dict[str, Tensor] = {}
    for tokens in batches:
        for site, value in record(model, tokens, node_sites(model.config)).items():
            seen = (value != 0).flatten(0, 1).any(dim=0)
            alive[site] = alive[site] | seen if site in alive else seen
    kinds: dict[str, list[Tensor]] = {}
    for site, seen in alive.items():
        kinds.setdefault(site.split(".", 1)[-1], []).append(seen)
    return {kind: 1 - torch.cat(seen).float().mean().item() for kind, seen in kinds.items()}
