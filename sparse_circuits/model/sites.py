"""The address book: every place in the transformer that can be read or changed, under the published hook names.

Beside the published ones stand `0.attn.q.pre`, what a site's matrix gave before its nonlinearity and AbsTopK, and
`0.attn.rms`, the root mean square (batch, pos, 1) that the sublayer's norm divides by.
A *node* is one channel of a node site, written `3.attn.q[17]`. A *link* is a weight matrix that joins two node sites of one
sublayer; a circuit's edges are entries of links (Gao et al. 2025, section 2.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from typing import NamedTuple, Protocol, runtime_checkable

from sparse_circuits.errors import UserError, nearest
from sparse_circuits.model.config import ModelConfig

FINAL = "final_resid"
FINAL_RMS = "final_rms"
_NODE_KINDS = ("attn.act_in", "attn.q", "attn.k", "attn.v", "attn.resid_delta", "mlp.act_in", "mlp.post_act", "mlp.resid_delta")
_ALL_KINDS = (
    *("resid_in", "attn.rms", "attn.act_in", "attn.q.pre", "attn.k.pre", "attn.v.pre", "attn.q", "attn.k", "attn.v", "attn.y"),
    *("attn.resid_delta.pre", "attn.resid_delta", "resid_mid", "mlp.rms", "mlp.act_in", "mlp.post_act.pre", "mlp.post_act"),
    *("mlp.resid_delta.pre", "mlp.resid_delta"),
)
_LINKED_KINDS = (
    ("attn.act_in", "attn.q"),
    ("attn.act_in", "attn.k"),
    ("attn.act_in", "attn.v"),
    ("attn.v", "attn.resid_delta"),
    ("mlp.act_in", "mlp.post_act"),
    ("mlp.post_act", "mlp.resid_delta"),
)


@runtime_checkable
class Layered(Protocol):
    """The shape of any transformer, ours or another's."""

    @property
    def n_layers(self) -> int: ...


class Node(NamedTuple):
    """One channel of one site."""

    site: str
    channel: int

    def __str__(self) -> str:
        return f"{self.site}[{self.channel}]"

    @classmethod
    def parse(cls, text: str) -> Node:
        """Read a node written as `3.attn.q[17]`."""
        match = re.fullmatch(r"([\w.]+)\[(\d+)\]", text)
        if match is None:
            raise UserError(f'"{text}" is no node: write site[channel], for example 3.attn.q[17].')
        return cls(match[1], int(match[2]))


class Link(NamedTuple):
    """Two node sites joined by one weight matrix, from what is read to what is written."""

    source: str
    target: str


def node_sites(config: ModelConfig) -> list[str]:
    """Return the sites whose channels are circuit nodes, in firing order."""
    return [f"{layer}.{kind}" for layer in range(config.n_layers) for kind in _NODE_KINDS] + [FINAL]


def all_sites(config: ModelConfig) -> list[str]:
    """Return every site, in firing order: node sites and what comes before them, the residual stream, head outputs, norms."""
    return [f"{layer}.{kind}" for layer in range(config.n_layers) for kind in _ALL_KINDS] + [FINAL, FINAL_RMS]


def rms_sites(config: ModelConfig) -> list[str]:
    """Return the sites of the norms' denominators."""
    return [site for site in all_sites(config) if site.endswith("rms")]


def residual_sites(config: Layered) -> list[str]:
    """Return the sites of the residual stream itself: before every sublayer and before the last norm."""
    return [f"{layer}.{kind}" for layer in range(config.n_layers) for kind in ("resid_in", "resid_mid")] + [FINAL]


def check_start(site: str, config: Layered) -> None:
    """Refuse a site at which no forward pass can start.

    Raises:
        UserError: it is not one of the residual stream.
    """
    starts = residual_sites(config)
    if site not in starts:
        raise UserError(
            f'A forward pass cannot start at "{site}"{nearest(site, starts)}: start at the residual stream '
            f"({starts[0]}, {starts[1]}, ..., {FINAL}), and replace inner sites with taps."
        )


@cache
def links(config: ModelConfig) -> tuple[Link, ...]:
    """Return every pair of node sites that a weight matrix joins."""
    return tuple(Link(f"{layer}.{a}", f"{layer}.{b}") for layer in range(config.n_layers) for a, b in _LINKED_KINDS)


def site_width(config: ModelConfig, site: str) -> int:
    """Return the number of channels of a site.

    Raises:
        UserError: the model has no such site.
    """
    match_sites(config, site)
    match site.removesuffix(".pre").split(".")[-1]:
        case "rms" | "final_rms":
            return 1
        case "act_in":
            return config.d_read
        case "q" | "k" | "v" | "y":
            return config.d_attn
        case "post_act":
            return config.neurons
        case _:
            return config.d_model


def match_sites(config: ModelConfig, patterns: str | Iterable[str]) -> list[str]:
    """Return the sites that match any of the shell-style patterns (`*.mlp.post_act`), in firing order.

    Raises:
        UserError: a pattern matches nothing.
    """
    sites = all_sites(config)
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matches = [site for site in sites if fnmatchcase(site, pattern)]
        if not matches:
            raise UserError(
                f'No site of this {config.n_layers}-layer model matches "{pattern}"{nearest(pattern, sites)}: '
                f"sites are named like {sites[0]}, {sites[1]} or {FINAL}."
            )
        found.update(matches)
    return [site for site in sites if site in found]
