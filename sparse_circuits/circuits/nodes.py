"""All nodes of a model in one row: a tensor over nodes holds the channels of every node site, in firing order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from sparse_circuits.model import ModelConfig, node_sites, site_width

Channels = Mapping[str, Sequence[int]]
"""The channels of each node site that belong to a circuit; sites without any are left out."""


@cache
def site_widths(config: ModelConfig) -> dict[str, int]:
    """Return the number of channels of every node site."""
    return {site: site_width(config, site) for site in node_sites(config)}


def count_nodes(config: ModelConfig) -> int:
    """Return how many nodes a model has."""
    return sum(site_widths(config).values())


def by_site(row: Shaped[Tensor, " node"], config: ModelConfig) -> dict[str, Shaped[Tensor, " width"]]:
    """Cut a row over all nodes into its sites, as views."""
    widths = site_widths(config)
    return dict(zip(widths, row.split(list(widths.values())), strict=True))


def channels_of(kept: Bool[Tensor, " node"], config: ModelConfig) -> dict[str, list[int]]:
    """Return the marked channels of every site that has any."""
    marked = {site: row.nonzero().squeeze(1).tolist() for site, row in by_site(kept, config).items()}
    return {site: channels for site, channels in marked.items() if channels}


def mark(channels: Channels, config: ModelConfig) -> Bool[Tensor, " node"]:
    """Return the row in which exactly these channels are marked."""
    kept = torch.zeros(count_nodes(config), dtype=torch.bool)
    sites = by_site(kept, config)
    for site, marked in channels.items():
        sites[site][list(marked)] = True
    return kept
