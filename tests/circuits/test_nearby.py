"""Nearby: to take a run up where a subgraph differs comes to the same as to run all of it."""

import pytest
import torch

from sparse_circuits.circuits import MaskConfig, Objective, nearby
from sparse_circuits.circuits.margin import chunk_margins, chunks, score
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nearby import Nearby
from sparse_circuits.circuits.norms import Norms
from sparse_circuits.circuits.sampler import TaskPairs
from sparse_circuits.circuits.search import Search
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model import node_sites, site_width
from sparse_circuits.tasks import PairBatch, Scoring, task_losses
from sparse_circuits.tasks.calibrate import Calibration
from tests.circuits.planted import CHEAT, planted_search
from tests.circuits.test_edges import CONFIG, some_nodes, sparse_model


def losses_of(search: Search, calibration: Calibration, subgraph: Subgraph) -> list[float]:
    return [score(calibration(margin)).loss for margin in search.margins(subgraph)]


@pytest.mark.parametrize("changes", [{}, {"norms": Norms.frozen}, {"objective": Objective.full}])
def test_what_is_near_is_taken_up_where_it_differs_and_comes_to_the_same(changes: dict[str, object]) -> None:
    """Every twelfth piece of a random half of a random model of two layers."""
    model = sparse_model().double()
    means = Means({s: torch.randn(site_width(CONFIG, s)).double() for s in node_sites(CONFIG)}, 1, "")
    last = torch.randint(6, (40,)).repeat(2)
    batch = PairBatch(torch.randint(20, (80, 6)), last, torch.randint(20, (40, 2, 1)), Scoring.pair)
    search = Search(model, TaskPairs(batch, batch, batch), means, MaskConfig(**changes), target_loss=10.0, max_scale=1.0)
    subgraph, calibration = Subgraph.whole(model, some_nodes()), Calibration(0.9, 0.1)
    near = Nearby(search, subgraph, calibration)
    for part in [subgraph, *(subgraph.without(piece) for piece in list(subgraph.pieces())[::12])]:
        largest = max(losses_of(search, calibration, part))
        assert near.loss(part) == pytest.approx(largest, abs=1e-6)
        for search.target_loss, reached in ((largest + 1e-3, True), (largest - 1e-3, False), (largest / 4, False)):
            assert near.reaches(part) is reached
    assert near.loss(subgraph.without(*subgraph.pieces())) != pytest.approx(near.loss(subgraph), abs=1e-3)


def test_a_miss_is_proved_by_the_worst_prompts_of_the_run_that_is_closest_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cheat alone is well under the target; with parts of the outside it is far above, in some prompts farthest."""
    search = planted_search(MaskConfig(), n_validation_pairs=80)
    subgraph, calibration = Subgraph.whole(search.model, CHEAT), Calibration()
    *alone, parts = search.margins(subgraph)
    assert max(score(margin).loss for margin in alone) < 0.1 < score(parts).loss
    near, seen = Nearby(search, subgraph, calibration), []

    def counted(*args: object, **settings: object) -> torch.Tensor:
        seen.append(chunk_margins(*args, **settings))
        return seen[-1]

    monkeypatch.setattr(nearby, "chunk_margins", counted)
    losses = [task_losses(parts)[chunk.rows].sum().item() for chunk in chunks(search.pairs.validation)]
    assert len(losses) == 5 and max(losses) > losses[0]
    search.target_loss = (max(losses) - 1e-3) / 160
    assert not near.reaches(subgraph) and len(seen) == 1
    search.target_loss = (max(losses) + 1e-3) / 160
    assert not near.reaches(subgraph) and len(seen) == 1 + 2
    search.target_loss = 10.0
    assert near.reaches(subgraph) and len(seen) == 1 + 2 + 3 * 5
