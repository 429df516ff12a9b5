"""Nearby: to take a run up where a subgraph differs comes to the same as to run all of it."""

import pytest
import torch

from sparse_circuits.circuits import MaskConfig, Objective
from sparse_circuits.circuits.branch import row_lengths
from sparse_circuits.circuits.discovery import nearby
from sparse_circuits.circuits.discovery.nearby import FEW, Nearby
from sparse_circuits.circuits.discovery.search import Search
from sparse_circuits.circuits.margin import chunk_margins, score
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.norms import Norms
from sparse_circuits.circuits.sampler import TaskPairs
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import node_sites, site_width
from sparse_circuits.tasks import task_losses
from sparse_circuits.tasks.calibrate import Calibration
from tests.circuits.planted import CHEAT, HONEST, planted_search
from tests.circuits.random_pairs import random_pairs
from tests.circuits.test_edges import CONFIG, some_nodes, sparse_model


def losses_of(search: Search, calibration: Calibration, subgraph: Subgraph) -> list[float]:
    return [score(calibration(margin)).loss for margin in search.margins(subgraph)]


@pytest.mark.parametrize("changes", [{}, {"norms": Norms.frozen}, {"objective": Objective.full}])
def test_what_is_near_is_taken_up_where_it_differs_and_comes_to_the_same(changes: dict[str, object], n_threads: int) -> None:
    """Every twelfth piece of a random half of a random model of two layers."""
    model = sparse_model().double()
    means = Means({s: torch.randn(site_width(CONFIG, s)).double() for s in node_sites(CONFIG)}, 1, "")
    batch = random_pairs(40, n_pos=6, d_vocab=20)
    search = Search(model, TaskPairs(batch, batch, batch), means, MaskConfig(**changes), target_loss=100.0, max_scale=1.0)
    subgraph, calibration = Subgraph.whole(model, some_nodes()), Calibration(0.9, 0.1)
    near = Nearby(search, subgraph, calibration)
    for part in [subgraph, *(subgraph.without(piece) for piece in list(subgraph.pieces())[::12])]:
        largest = max(losses_of(search, calibration, part))
        search.target_loss = 100.0
        assert near.loss(part) == pytest.approx(largest, abs=1e-6)
        for search.target_loss in (largest - 1e-3, largest / 4):
            assert search.target_loss < near.loss(part) < largest + 1e-6
    search.target_loss = 100.0
    assert near.loss(subgraph.without(*subgraph.pieces())) != pytest.approx(near.loss(subgraph), abs=1e-3)


def test_a_miss_is_proved_by_the_worst_pairs_of_the_run_that_is_closest_to_it() -> None:
    """The cheat alone is well under the target; with parts of the outside it is far above, in some pairs farthest."""
    search = planted_search(MaskConfig(), n_validation_pairs=80)
    subgraph, calibration = Subgraph.whole(search.model, CHEAT), Calibration()
    *alone, parts = (task_losses(margin) for margin in search.margins(subgraph))
    assert max(losses.mean() for losses in alone) < 0.1 < parts.mean()
    near = Nearby(search, subgraph, calibration)
    of_pairs = parts.unflatten(0, (2, -1)).sum(0) / 160
    worst = of_pairs[(of_pairs / row_lengths(search.pairs.validation)).argsort(descending=True)]
    of_chunks = [some.sum().item() for some in worst.split(FEW)]
    search.target_loss = of_chunks[0] - 1e-3
    assert near.loss(subgraph) == pytest.approx(of_chunks[0], abs=1e-6)
    search.target_loss = of_chunks[0] + 1e-3
    assert near.loss(subgraph) == pytest.approx(sum(of_chunks[:2]), abs=1e-6)


def test_without_proof_a_miss_shows_on_the_first_pairs_of_the_worst_run() -> None:
    """The pairs that have not run are taken to lose what they lost before, all in all more than a part of them proves."""
    search = planted_search(MaskConfig(), n_validation_pairs=80)
    subgraph, calibration = Subgraph.whole(search.model, CHEAT), Calibration()
    near, smaller = Nearby(search, subgraph, calibration), subgraph.without(next(subgraph.pieces()))
    before, after = (list(search.margins(each))[-1] for each in (subgraph, smaller))
    before, after = (task_losses(margin).unflatten(0, (2, -1)).sum(0) / 160 for margin in (before, after))
    order = (before / row_lengths(search.pairs.validation)).argsort(descending=True)
    rest = before[order[FEW:]].sum().item()
    at_first = after[order[:FEW]].sum().item() + rest
    search.target_loss = at_first - 1e-3
    assert next(near.losses([[smaller]], proven=False))[0] == pytest.approx(at_first, abs=1e-6) and rest > 0.1
    search.target_loss = 100.0
    assert next(near.losses([[smaller]], proven=False))[0] == pytest.approx(near.loss(smaller), abs=1e-6)


def test_of_several_the_first_that_reaches_the_target_is_measured_and_of_the_others_what_misses_it() -> None:
    search = planted_search(MaskConfig(), n_validation_pairs=20)
    whole = Subgraph.whole(search.model, HONEST)
    near = Nearby(search, whole, Calibration())
    parts = [whole.without(piece) for piece in whole.pieces()]
    search.target_loss = 100.0
    losses = [near.loss(part) for part in parts]
    order = sorted(range(len(parts)), key=lambda place: -losses[place])
    worst, good, also_good = order[0], *order[-2:]
    search.target_loss = losses[good] + 1e-6
    several = [parts[place] for place in (worst, good, worst, also_good)]
    missed, reached, missed_again, unknown = next(near.losses([several]))
    assert missed == missed_again > search.target_loss > reached == pytest.approx(losses[good], abs=1e-6)
    assert unknown is None


def test_a_glance_goes_by_the_latest_that_reached_the_target_and_a_proof_goes_on_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # what other processes run is not counted here
    ran = []
    monkeypatch.setattr(nearby, "chunk_margins", lambda *args, **kwargs: ran.append(1) or chunk_margins(*args, **kwargs))
    search = planted_search(MaskConfig(objective=Objective.full, norms=Norms.free), n_validation_pairs=80)
    whole = Subgraph.whole(search.model, CHEAT)
    smaller = whole.without(next(whole.pieces()))
    near, fresh = (Nearby(search, whole, Calibration()) for _ in range(2))
    search.target_loss = 100.0
    exact = next(near.losses([[smaller]], proven=False))[0]
    base = sum(fresh.before[0])
    assert base + 0.1 < exact == pytest.approx(sum(near.before[0]), abs=1e-6)
    first, second, *_ = near.before[0]
    rest = sum(fresh.before[0][1:])
    search.target_loss = first + min(second, rest) / 2  # the first part misses it with what the others were, not by itself

    def n_run(of: Nearby, *, proven: bool) -> int:
        ran.clear()
        assert search.target_loss < next(of.losses([[smaller]], proven=proven))[0] < exact + 1e-6
        return len(ran)

    another = Nearby(search, whole, Calibration())
    assert [n_run(fresh, proven=False), n_run(fresh, proven=True), n_run(another, proven=True)] == [1, 1, 2]
