"""Thinning: the target is kept, what is needed stays, what costs nothing goes in few runs; effects are derivatives."""

import pytest
import torch

from sparse_circuits.circuits import MaskConfig
from sparse_circuits.circuits.ablate import chain
from sparse_circuits.circuits.clean_up import Loss, Piece
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.nodes import list_nodes
from sparse_circuits.circuits.search import Search
from sparse_circuits.circuits.subgraph import Subgraph, subgraph_taps
from sparse_circuits.circuits.thin import FEW, effects, thin
from sparse_circuits.model import Node
from sparse_circuits.tasks import right_margins
from tests.circuits.planted import CHEAT, HONEST, planted_search

NODES = {"0.mlp.act_in": list(range(60)), "0.mlp.post_act": list(range(40))}
NEEDED = {Node("0.mlp.act_in", 3), Node("0.mlp.post_act", 39)}


def thinned(worth: dict[Piece, float], target_loss: float) -> tuple[Subgraph, list[int]]:
    """Thin nodes whose effects are what they are worth, and return what is left and the sizes that were run."""
    sizes = []

    def near(base: Subgraph) -> Loss:
        def loss(part: Subgraph) -> float:
            left = set(part.pieces())
            sizes.append(len(left))
            return sum(each for piece, each in worth.items() if piece not in left)

        return loss

    def effects_of(part: Subgraph) -> dict[Piece, float]:
        return {piece: worth[piece] for piece in part.pieces()}

    return thin(Subgraph(NODES, []), effects_of, near, target_loss=target_loss), sizes


def test_what_costs_nothing_goes_in_few_runs_and_what_is_needed_stays() -> None:
    worth = {node: float(node in NEEDED) for node in list_nodes(NODES)}
    left, sizes = thinned(worth, 0.5)
    assert set(left.pieces()) == NEEDED and len(sizes) < 12


@pytest.mark.parametrize("target_loss", [0.0, 0.3, 2.0])
def test_the_target_is_kept_and_next_to_nothing_more_would_go(target_loss: float) -> None:
    worth = {node: place / 1000 for place, node in enumerate(list_nodes(NODES))}
    left, _ = thinned(worth, target_loss)
    gone = sorted(each for piece, each in worth.items() if piece not in set(left.pieces()))
    cheapest = sorted(worth[piece] for piece in left.pieces())[:FEW]
    assert sum(gone) <= target_loss < sum(gone) + sum(cheapest)


def test_nothing_goes_where_nothing_may() -> None:
    left, _ = thinned(dict.fromkeys(list_nodes(NODES), 1.0), 0.5)
    assert left == Subgraph(NODES, [])


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
