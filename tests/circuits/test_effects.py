"""Effects: of every piece what a small share less of it costs."""

import pytest
import torch

from sparse_circuits.circuits import MaskConfig
from sparse_circuits.circuits.ablate import chain
from sparse_circuits.circuits.clean_up import Piece
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.effects import effects
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.search import Search
from sparse_circuits.circuits.subgraph import Subgraph, subgraph_taps
from sparse_circuits.model import Node
from sparse_circuits.tasks import right_margins
from tests.circuits.planted import CHEAT, HONEST, planted_search


def test_effects_are_what_a_small_share_less_would_cost() -> None:
    """In the planted model, against the margin with each piece's share a little less, node by node and edge by edge."""
    search = planted_search(MaskConfig())
    nodes = {site: sorted({*HONEST[site], *CHEAT[site]}) for site in HONEST}
    whole = Subgraph.whole(search.model, nodes)
    subgraph = whole.without(whole.edges[0])
    found = effects(search.model, search.pairs.validation, subgraph, search.means)
    assert list(found) == list(subgraph.pieces())
    for piece, effect in found.items():
        assert effect == pytest.approx(slope(search, subgraph, piece), abs=2e-3), piece
    assert max(found.values()) > 0.5


def slope(search: Search, subgraph: Subgraph, piece: Piece, step: float = 1e-4) -> float:
    """Return what the mean right margin loses for a share of a piece that is less by `step`, over `step`."""
    taps = subgraph_taps(search.model, subgraph, search.means)
    if isinstance(piece, Edge):
        edges = [each._replace(weight=each.weight * (1 - step)) if each == piece else each for each in subgraph.edges]
        less = subgraph_taps(search.model, subgraph._replace(edges=edges), search.means)
    else:
        less = chain({piece.site: lambda value: towards_mean(search, value, piece, step)}, taps)
    own, other = (
        right_margins(answer_margins(search.model, search.pairs.validation, taps=each)).mean() for each in (taps, less)
    )
    return ((own - other) / step).item()


def towards_mean(search: Search, value: torch.Tensor, node: Node, step: float) -> torch.Tensor:
    moved = value.clone()
    moved[..., node.channel] += step * (search.means(node.site, value)[node.channel] - value[..., node.channel])
    return moved
