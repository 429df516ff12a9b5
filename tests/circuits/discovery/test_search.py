"""The search: the planted circuit is found in every setting, nothing of it can go, and a cheat passes `full` alone."""

import dataclasses
from multiprocessing import get_context

import pytest
import torch

from sparse_circuits.circuits import Ablation, MaskConfig, Objective
from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.discovery import search as search_module
from sparse_circuits.circuits.discovery.discretise import Discrete
from sparse_circuits.circuits.discovery.search import Found, Search, learn_side_by_side
from sparse_circuits.circuits.edges import Edge, circuit_edges
from sparse_circuits.circuits.evidence.controls import swapped
from sparse_circuits.circuits.margin import answer_margins, pooled, score
from sparse_circuits.circuits.nodes import mark
from sparse_circuits.circuits.norms import FrozenNorms, Norms
from sparse_circuits.circuits.partial import partial_taps
from sparse_circuits.circuits.subgraph import Subgraph, subgraph_taps
from sparse_circuits.model import Node
from sparse_circuits.tasks.calibrate import Calibration, calibrate
from tests.circuits.planted import CHEAT, CONFIG, HONEST, planted_means, planted_model, planted_search

MASKS = MaskConfig(n_steps=40, n_edge_steps=20, lr=0.04)
SETTINGS = {
    "full": {"objective": Objective.full},
    "partial": {},
    "adversarial": {"objective": Objective.adversarial, "n_steps": 30},
    "zero": {"ablation": Ablation.zero},
    "resample": {"ablation": Ablation.resample},
    "free norms": {"norms": Norms.free},
    "frozen norms": {"norms": Norms.frozen},
    "tied": {"tied_qk": True},
}


def searches(**changes: object) -> Search:
    return planted_search(dataclasses.replace(MASKS, **changes))


def losses_of(search: Search, calibration: Calibration, subgraph: Subgraph) -> list[float]:
    return [score(calibration(margin)).loss for margin in search.margins(subgraph)]


def calibrated(search: Search, subgraph: Subgraph) -> Calibration:
    margins = list(search.margins(subgraph))
    if search.config.objective is not Objective.full:
        margins.append(answer_margins(search.model, search.pairs.validation))
    return calibrate(pooled(torch.stack(margins)), max_scale=search.max_scale)


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
    assert max(losses_of(search, found.calibration, found.subgraph)) <= search.target_loss
    assert list(found.without) == list(found.subgraph.pieces())
    nodes, edges, merges = found.subgraph
    assert merges == ()
    for piece, certified in found.without.items():
        smaller = Subgraph(
            {site: [c for c in channels if Node(site, c) != piece] for site, channels in nodes.items()},
            [edge for edge in edges if piece not in (edge, edge.source, edge.target)],
        )
        losses = losses_of(search, found.calibration, smaller)
        assert search.target_loss < certified <= max(losses) + 1e-6, piece


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
    found = search.refine(Discrete(mark(nodes, CONFIG), calibrated(search, Subgraph(nodes))))
    assert found.subgraph.nodes == nodes
    useless = Edge(Node("0.mlp.post_act", 0), Node("0.mlp.resid_delta", 3), pytest.approx(1e-3))
    assert found.subgraph.edges == [edge for edge in circuit_edges(model, nodes) if edge != useless]
    assert len(found.subgraph.edges) == 8


def test_a_cheat_passes_where_everything_else_is_ablated_and_nowhere_else() -> None:
    full, partial = searches(objective=Objective.full), searches()
    reached = {}
    for name, nodes in (("honest", HONEST), ("cheat", CHEAT)):
        for search in (full, partial):
            losses = losses_of(search, calibrated(search, Subgraph(nodes)), Subgraph(nodes))
            reached[name, search] = max(losses) <= search.target_loss
    assert reached == {("honest", full): True, ("honest", partial): True, ("cheat", full): True, ("cheat", partial): False}


@pytest.mark.parametrize("objective", Objective)
@pytest.mark.parametrize("norms", Norms)
def test_runs_are_the_circuit_alone_with_either_norm_and_with_random_parts_of_the_outside(
    objective: Objective, norms: Norms
) -> None:
    subgraph = Subgraph(HONEST, circuit_edges(planted_model(), HONEST)[1:])
    search = searches(objective=objective, norms=norms)
    batch, alone = search.pairs.validation, subgraph_taps(search.model, subgraph, search.means)
    frozen, parts = FrozenNorms(search.model, batch), partial_taps(search.model, subgraph, search.means, search.parts)
    expected = {
        Norms.free: [alone, parts],
        Norms.frozen: [frozen.under(alone), frozen.under(parts)],
        Norms.both: [frozen.under(alone), alone, parts],
    }[norms]
    if objective is Objective.full:
        expected.pop()
    found = torch.stack(list(search.margins(subgraph)))
    assert torch.equal(found, torch.stack([answer_margins(search.model, batch, taps=taps) for taps in expected]))
    assert len(found.unique(dim=0)) == len(expected)


def test_zero_ablation_measures_against_zeros() -> None:
    search = searches(ablation=Ablation.zero, norms=Norms.free)
    assert planted_means(search.model).sites["final_resid"][7] == pytest.approx(4)

    def by_zeros(site: str, value: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(value)

    expected = answer_margins(search.model, search.pairs.validation, taps=ablation_taps(mark(HONEST, CONFIG), by_zeros, CONFIG))
    assert torch.equal(next(search.margins(Subgraph(HONEST))), expected)
    by_means = searches(norms=Norms.free).margins(Subgraph(HONEST))
    assert not torch.allclose(expected, next(by_means), atol=0.1)


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


def test_another_target_is_aimed_at_with_the_mask_that_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    learned, learn = [], Search.learn_nodes
    monkeypatch.setattr(Search, "learn_nodes", lambda search: learned.append(search) or learn(search))
    search = searches()
    before = search.target_loss
    first = search.aiming(0.5)
    loose = first.nodes()
    tight = first.aiming(0.01)
    found = tight.nodes()
    assert learned == [first] and (search.target_loss, first.target_loss, tight.target_loss) == (before, 0.5, 0.01)
    assert found.kept.sum() > loose.kept.sum()
    anew = searches().aiming(0.01).nodes()
    assert len(learned) == 2 and torch.equal(anew.kept, found.kept)


def test_searches_learn_at_the_same_time_and_what_each_would_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """None passes before another has come: what lets in one at a time breaks the barrier."""
    both, learn = get_context("fork").Barrier(2, timeout=60), Search.learn_nodes

    def together(search: Search) -> torch.Tensor:
        both.wait()
        return learn(search)

    monkeypatch.setattr(Search, "learn_nodes", together)
    pair = [searches(), searches(objective=Objective.full)]
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        learn_side_by_side(pair)
    finally:
        torch.set_num_threads(n_threads)
    for search in pair:
        torch.testing.assert_close(search.node_mask, learn(search), rtol=1e-5, atol=1e-5)


def test_masks_are_learned_on_one_thread_and_once(monkeypatch: pytest.MonkeyPatch, n_threads: int) -> None:
    """A second thread is no help, and waits wherever another program is on its core."""
    seen, learn = [], search_module.learn_mask

    def learn_mask(*arguments: object, **options: object) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        return learn(*arguments, **options)

    monkeypatch.setattr(search_module, "learn_mask", learn_mask)
    search = searches(n_steps=2, n_edge_steps=2)
    search.run()
    assert seen == [1, 1] and torch.get_num_threads() == n_threads
    learn_side_by_side([search])
    assert seen == [1, 1]


def test_the_unpruned_model_runs_once_for_all_masks_of_its_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[object] = []

    class Counted(FrozenNorms):
        def __init__(self, model: object, batch: object, **options: object) -> None:
            runs.append(batch)
            super().__init__(model, batch, **options)

    monkeypatch.setattr(search_module, "FrozenNorms", Counted)
    search = searches(n_steps=2, n_edge_steps=2)
    others = [search.with_masks(dataclasses.replace(search.config, lr=lr)) for lr in (0.01, 0.02)]
    for each in (search, *others, search.aiming(0.05)):
        each.learn_nodes()
    assert [batch is search.pairs.train for batch in runs] == [True]
    nonsense = search.on(swapped(search.pairs), seed=0)
    nonsense.learn_nodes()
    assert len(runs) == 2 and runs[1] is nonsense.pairs.train
