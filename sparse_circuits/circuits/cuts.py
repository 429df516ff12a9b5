"""Cutting single edges: a reader sees the mean of a source that was cut from it, and the value of every other.

With C the cut weights of a link (zero elsewhere) and a the source, what the reader's matrix gave loses C (a - mean), before
its AbsTopK. Where heads stand in between (v to attn.resid_delta) the reader reads head outputs, and loses C A (a - mean), with
A the attention: sinks take their share of a mean as they do of a value. So cutting all edges that leave a node is ablating it.
The paper prunes nodes only (Gao et al. 2025, limitations); this is the stage behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.ablate import StandIn
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.model import Link, Transformer
from sparse_circuits.model.taps import Look, Taps


class Cut(NamedTuple):
    """The cut weights of one link."""

    sources: Int[Tensor, " n_sources"]
    """Channels that something is cut from."""
    targets: Int[Tensor, " n_targets"]
    """Channels that lose something."""
    weight: Float[Tensor, "*n_rows n_targets n_sources"]
    """What is cut: an edge's weight, a share of it, or 0; for all prompts, or for each its own."""


def cuts_of(edges: Sequence[Edge], device: torch.device | str = "cpu") -> dict[Link, Cut]:
    """Return the cuts of whole edges, by link."""
    return scaled_cuts(edges, torch.ones(len(edges), device=device))


def scaled_cuts(edges: Sequence[Edge], share: Float[Tensor, "*n_rows edge"]) -> dict[Link, Cut]:
    """Return the cuts that take a share of every edge's weight away, differentiable in the shares."""
    places: dict[Link, list[int]] = {}
    for place, edge in enumerate(edges):
        places.setdefault(Link(edge.source.site, edge.target.site), []).append(place)
    return {link: _cut([edges[place] for place in those], share[..., those]) for link, those in places.items()}


def _cut(edges: list[Edge], share: Tensor) -> Cut:
    sources, targets = (sorted({edge[end].channel for edge in edges}) for end in (0, 1))
    place = [targets.index(edge.target.channel) * len(sources) + sources.index(edge.source.channel) for edge in edges]
    lost = share * share.new_tensor([edge.weight for edge in edges])
    blank = share.new_zeros(*share.shape[:-1], len(targets) * len(sources))
    weight = blank.index_add(-1, torch.tensor(place, device=share.device), lost)
    channels = (torch.tensor(each, device=share.device) for each in (sources, targets))
    return Cut(*channels, weight.unflatten(-1, (len(targets), len(sources))))


class Seen(threading.local):
    """What the sites of a run have held so far; runs may go side by side, each in its thread."""

    def __init__(self) -> None:
        self.values: dict[str, Tensor] = {}

    def hold(self, site: str, value: Tensor) -> None:
        """Hold the value of a site."""
        self.values[site] = value


def cut_taps(model: Transformer, cuts: Mapping[Link, Cut], stand_in: StandIn) -> Taps:
    """Return taps that cut; they read what the sites' own taps, run before them, have made of the sources."""
    seen = Seen()
    taps: dict[str, Callable[[Tensor], Tensor]] = {}
    arriving: dict[str, list[tuple[Link, Cut]]] = {}
    for link, cut in cuts.items():
        arriving.setdefault(link.target, []).append((link, cut))
        for site in _sites_before(link):
            taps[site] = Look(partial(seen.hold, site))
    for target, pairs in arriving.items():
        taps[f"{target}.pre"] = _cutter(model, pairs, seen, stand_in)
    return taps


def _through_heads(link: Link) -> bool:
    return link.source.endswith("attn.v")


def _sites_before(link: Link) -> list[str]:
    return [link.source, *(f"{link.source[:-1]}{name}" for name in "qk")] if _through_heads(link) else [link.source]


def _cutter(model: Transformer, pairs: list[tuple[Link, Cut]], seen: Seen, stand_in: StandIn) -> Callable[[Tensor], Tensor]:
    def tap(before: Tensor) -> Tensor:
        for link, cut in pairs:
            read = _deviation(model, link, cut, seen, stand_in, n_pos=before.shape[1])
            before = before.index_add(-1, cut.targets, (-read @ cut.weight.to(read.dtype).mT).to(before.dtype))
        return before

    return tap


def _deviation(model: Transformer, link: Link, cut: Cut, seen: Seen, stand_in: StandIn, *, n_pos: int) -> Tensor:
    """Return by how much what the reader, at so many positions, sees of the cut sources differs from their stand-ins."""
    value = seen.values[link.source]
    other = stand_in(link.source, value)
    if not _through_heads(link):
        return value.index_select(-1, cut.sources) - other.index_select(-1, cut.sources)
    q, k = (seen.values[site] for site in _sites_before(link)[1:])
    attention = model.layers[int(link.source.split(".")[0])].attn
    return attention.attend(q, k, value - other, channels=cut.sources, at_ends=n_pos < q.shape[1])
