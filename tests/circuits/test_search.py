"""The search: the planted circuit is found in every setting, nothing of it can go, and a cheat passes `full` alone."""

import dataclasses

import pytest
import torch

from sparse_circuits.circuits import Ablation, MaskConfig, Objective
from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.controls import swapped
from sparse_circuits.circuits.discretise import Discrete
from sparse_circuits.circuits.edges import Edge, circuit_edges
from sparse_circuits.circuits.margin import answer_margins, frozen_norms, pooled, score, worst_loss
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import mark
from sparse_circuits.circuits.partial import partial_taps
from sparse_circuits.circuits.sampler import TaskPairs
from sparse_circuits.circuits.search import Found, Nearby, Search
from sparse_circuits.circuits.subgraph import Subgraph, subgraph_taps
from sparse_circuits.model import Node, node_sites, site_width
from sparse_circuits.tasks import PairBatch, Scoring
from sparse_circuits.tasks.calibrate import Calibration, calibrate
from tests.circuits.planted import CHEAT, CONFIG, HONEST, planted_means, planted_model, planted_search
from tests.circuits.test_edges import CONFIG as EDGES_CONFIG
from tests.circuits.test_edges import some_nodes, sparse_model

MASKS = MaskConfig(n_steps=40, n_edge_steps=20, lr=0.04)
SETTINGS = {
    "full": {"objective": Objective.full},
    "partial": {},
    "adversarial": {"objective": Objective.adversarial, "n_steps": 30},
    "zero": {"ablation": Ablation.zero},
    "resample": {"ablation": Ablation.resample},
    "frozen norms": {"frozen_norms": True},
    "tied": {"tied_qk": True},
    "no edge stage": {"n_edge_steps": 0},
}


def searches(**changes: object) -> Search:
    return planted_search(dataclasses.replace(MASKS, **changes))


def losses(search: Search, found: Found, subgraph: Subgraph) -> float:
    return worst_loss(found.calibration(search.margins(subgraph)))


@pytest.fixture(scope="module", params=SETTINGS)
def searched(request: pytest.FixtureRequest) -> tuple[Search, Found]:
    torch.manual_seed(0)
    search = searches(**SETTINGS[request.param])
    return search, search.run()


def test_finds_a_way_that_answers_and_nothing_beside_it(searched: tuple[Search, Found]) -> None:
    search, found = searched
    chosen = found.subgraph.nodes
    assert chosen.keys() == HONEST.keys() and found.n_ranked < 10
    assert all(set(channels) <= {*HONEST[site], *CHEAT[site], 5} for site, channels in chosen.items())
    if search.config.objective is not Objective.full:
        assert all(set(channels) & set(HONEST[site]) for site, channels in chosen.items())


def test_it_reaches_the_target_and_without_any_piece_it_does_not(searched: tuple[Search, Found]) -> None:
    """The certificate by brute force, every piece removed by hand and the whole run anew."""
    search, found = searched
    assert losses(search, found, found.subgraph) <= search.target_loss
    assert list(found.without) == list(found.subgraph.pieces())
    nodes, edges, merges = found.subgraph
    assert merges == ()
    for piece, certified in found.without.items():
        smaller = Subgraph(
            {site: [c for c in channels if Node(site, c) != piece] for site, channels in nodes.items()},
            [edge for edge in edges if piece not in (edge, edge.source, edge.target)],
        )
        loss = losses(search, found, smaller)
        assert loss > search.target_loss, piece
        alone = worst_loss(found.calibration(search.margins(smaller)[:1]))
        assert certified == pytest.approx(alone if alone > search.target_loss else loss, abs=1e-6), piece


@pytest.mark.parametrize("n_edge_steps", [0, 20])
def test_a_useless_edge_among_needed_nodes_is_cut(n_edge_steps: int) -> None:
    """All four neurons are needed, two of which now write to channel 3; there, another one writes next to nothing."""
    model = planted_model()
    out = model.layers[0].mlp.out.weight
    out[3, 2:4], out[1, 2:4] = out[1, 2:4].clone(), 0
    out[3, 0] = 1e-3
    model.unembed.weight[:, 3] = model.unembed.weight[:, 1]
    config = dataclasses.replace(MASKS, objective=Objective.full, n_edge_steps=n_edge_steps)
    search = planted_search(config, model=model, target_loss=0.004)
    nodes = {**HONEST, "0.mlp.resid_delta": [1, 3], "final_resid": [1, 3]}
    calibration = calibrate(pooled(search.margins(Subgraph(nodes))), max_scale=1.0)
    found = search.refine(Discrete(mark(nodes, CONFIG), calibration))
    assert found.subgraph.nodes == nodes
    useless = Edge(Node("0.mlp.post_act", 0), Node("0.mlp.resid_delta", 3), pytest.approx(1e-3))
    assert found.subgraph.edges == [edge for edge in circuit_edges(model, nodes) if edge != useless]
    assert len(found.subgraph.edges) == 8


def test_a_cheat_passes_where_everything_else_is_ablated_and_nowhere_else() -> None:
    full, partial = searches(objective=Objective.full), searches()
    reached = {}
    for name, nodes in (("honest", HONEST), ("cheat", CHEAT)):
        for search in (full, partial):
            margins = search.margins(Subgraph(nodes))
            calibration = calibrate(pooled(margins), max_scale=search.max_scale)
            reached[name, search] = worst_loss(calibration(margins)) <= search.target_loss
    assert reached == {("honest", full): True, ("honest", partial): True, ("cheat", full): True, ("cheat", partial): False}


def test_runs_are_the_circuit_alone_and_with_random_parts_of_the_outside() -> None:
    subgraph = Subgraph(HONEST, circuit_edges(planted_model(), HONEST)[1:])
    for objective in Objective:
        search = searches(objective=objective)
        batch = search.pairs.validation
        alone = answer_margins(search.model, batch, taps=subgraph_taps(search.model, subgraph, search.means))
        found = search.margins(subgraph)
        assert torch.equal(found[0], alone)
        if objective is Objective.full:
            assert len(found) == 1
            continue
        parts = partial_taps(search.model, subgraph, search.means, search.parts)
        assert len(found) == 2 and torch.equal(found[1], answer_margins(search.model, batch, taps=parts))
        assert not torch.equal(found[0], found[1])


def test_zero_ablation_measures_against_zeros_and_frozen_norms_with_the_models_own() -> None:
    zero, frozen, model = searches(ablation=Ablation.zero), searches(frozen_norms=True), planted_model()
    means = planted_means(model)
    assert means.sites["final_resid"][7] == pytest.approx(4)

    def by_zeros(site: str, value: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(value)

    taps = ablation_taps(mark(HONEST, CONFIG), by_zeros, CONFIG)
    assert torch.equal(zero.margins(Subgraph(HONEST))[0], answer_margins(zero.model, zero.pairs.validation, taps=taps))
    taps = frozen_norms(frozen.model, frozen.pairs.validation, ablation_taps(mark(HONEST, CONFIG), frozen.means, CONFIG))
    expected = answer_margins(frozen.model, frozen.pairs.validation, taps=taps)
    assert torch.equal(frozen.margins(Subgraph(HONEST))[0], expected)
    assert not torch.allclose(expected, searches().margins(Subgraph(HONEST))[0], atol=0.1)


def test_nothing_is_found_where_nothing_reaches_the_target() -> None:
    search = planted_search(dataclasses.replace(MASKS, n_steps=2), target_loss=1e-4)
    assert search.run() is None
    search = searches(n_steps=30)
    assert search.on(swapped(search.pairs), seed=0).run() is None


def test_the_same_search_goes_to_other_pairs_models_and_masks() -> None:
    search = planted_search(MASKS, target_loss=0.05)
    model = planted_model()
    pairs = swapped(search.pairs)
    for other in (search.on(pairs, seed=4), search.inside(model, search.means), search.with_masks(MaskConfig(n_steps=7))):
        assert (other.target_loss, other.max_scale) == (0.05, 1.0)
    assert search.on(pairs, seed=4).pairs is pairs and search.on(pairs, seed=4).seed == 4
    assert search.inside(model, search.means).model is model and search.inside(model, search.means).pairs is search.pairs
    assert search.with_masks(MaskConfig(n_steps=7)).config.n_steps == 7


@pytest.mark.parametrize("changes", [{}, {"frozen_norms": True}, {"objective": Objective.full}])
def test_what_is_near_is_taken_up_where_it_differs_and_comes_to_the_same(changes: dict[str, object]) -> None:
    """Every twelfth piece of a random half of a random model of two layers."""
    model = sparse_model().double()
    means = Means({s: torch.randn(site_width(EDGES_CONFIG, s)).double() for s in node_sites(EDGES_CONFIG)}, 1, "")
    last = torch.randint(6, (40,)).repeat(2)
    batch = PairBatch(torch.randint(20, (80, 6)), last, torch.randint(20, (40, 2, 1)), Scoring.pair)
    config = dataclasses.replace(MASKS, **changes)
    search = Search(model, TaskPairs(batch, batch, batch), means, config, target_loss=10.0, max_scale=1.0)
    subgraph, calibration = Subgraph.whole(model, some_nodes()), Calibration(0.9, 0.1)
    near = Nearby(search, subgraph, calibration)
    found = {piece: near(subgraph.without(piece)) for piece in list(subgraph.pieces())[::12]}
    for piece, loss in found.items():
        assert loss == pytest.approx(worst_loss(calibration(search.margins(subgraph.without(piece)))), abs=1e-6), piece
    assert near(subgraph) == pytest.approx(worst_loss(calibration(search.margins(subgraph))), abs=1e-6)
    assert len(set(found.values())) > len(found) / 2
    search.target_loss = 0.0
    assert near(subgraph) == pytest.approx(score(calibration(search.margins(subgraph)[0])).loss, abs=1e-6)
