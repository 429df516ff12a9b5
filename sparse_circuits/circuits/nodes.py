"""All nodes of a model in one row: a tensor over nodes holds the channels of every node site, in firing order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import accumulate

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from sparse_circuits.model import ModelConfig, Node, node_sites, site_width

Channels = Mapping[str, Sequence[int]]
"""The channels of each node site that belong to a circuit; sites without any are left out."""


def list_nodes(channels: Channels) -> list[Node]:
    """Return the nodes one by one, site after site."""
    return [Node(site, channel) for site, marked in channels.items() for channel in marked]


@cache
def site_widths(config: ModelConfig) -> dict[str, int]:
    """Return the number of channels of every node site."""
    return {site: site_width(config, site) for site in node_sites(config)}


def offsets(config: ModelConfig) -> dict[str, int]:
    """Return at which place of a row over all nodes every site begins."""
    widths = site_widths(config)
    return dict(zip(widths, accumulate(widths.values(), initial=0), strict=False))


def count_nodes(config: ModelConfig) -> int:
    """Return how many nodes a model has."""
    return sum(site_widths(config).values())


def by_site(rows: Shaped[Tensor, "*rows node"], config: ModelConfig) -> dict[str, Shaped[Tensor, "*rows width"]]:
    """Cut a row over all nodes, or several, into its sites, as views."""
    widths = site_widths(config)
    return dict(zip(widths, rows.split(list(widths.values()), dim=-1), strict=True))


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
