"""Tuning: the paper's centres first, the best first out, nothing lost when killed, losers stopped early."""

from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path

import optuna
import pytest
import torch
from optuna.trial import TrialState

from sparse_circuits.circuits import Budget, TuneConfig
from sparse_circuits.circuits.discovery import tune
from sparse_circuits.circuits.discovery.masks import MaskConfig
from sparse_circuits.circuits.discovery.search import Search
from sparse_circuits.circuits.discovery.tune import CENTRES, RANGES, SHARES, candidates, mask_config, n_edges
from sparse_circuits.circuits.extract import prepare_search
from sparse_circuits.errors import UserError
from tests.circuits.toy import EXTRACT, TASK, Toy

STANDARD = TuneConfig(budget=Budget.standard)


@pytest.fixture(autouse=True)
def in_this_process() -> Iterator[None]:
    """On one thread no process is forked, so that a test sees what trials do."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n_threads)


@pytest.fixture
def search(toy: Toy) -> Search:
    return prepare_search(toy.model, TASK, toy.tokenizer, toy.means, config=EXTRACT)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, float], float]]:
    """Trials without mask learning, and how far each was asked to go: the smaller the learning rate, the fewer the edges."""
    seen: list[tuple[dict[str, float], float]] = []

    def measure(search: Search, parameters: dict[str, float], share: float) -> int:
        seen.append((parameters, share))
        return round(1e6 * parameters["lr"])

    monkeypatch.setattr(tune, "n_edges", measure)
    return seen


def begun(seen: list[tuple[dict[str, float], float]]) -> list[dict[str, float]]:
    return [parameters for parameters, share in seen if share == SHARES[0]]


N_TRIALS = tune.EFFORT[Budget.standard].n_trials


def test_the_quick_budget_is_the_configuration_as_it_is(search: Search) -> None:
    assert list(candidates(search, TuneConfig())) == [search.config]


def test_begins_with_the_papers_centres_and_ends_with_the_best_first(
    search: Search, seen: list[tuple[dict[str, float], float]]
) -> None:
    found = list(candidates(search, STANDARD))
    trials = begun(seen)
    assert len(trials) == N_TRIALS and trials[0] == CENTRES
    assert trials[1]["lr"] == search.config.lr and trials[1]["k_coef"] == search.config.k_coef
    best = sorted(trial["lr"] for trial in trials)[: STANDARD.n_finalists]
    assert [config.lr for config in found] == [lr for lr in best if lr <= tune.IN_REACH * best[0]]
    assert all(config.objective is search.config.objective and config.n_steps == search.config.n_steps for config in found)


def test_few_climb_and_the_best_to_the_end(search: Search, seen: list[tuple[dict[str, float], float]]) -> None:
    list(candidates(search, STANDARD))
    climbed = [sum(1 for _, reached in seen if reached == share) for share in SHARES]
    assert climbed[0] == N_TRIALS > climbed[1] >= climbed[2] >= 1
    best = min(trial["lr"] for trial in begun(seen))
    assert any(parameters["lr"] == best and share == 1 for parameters, share in seen)


def test_what_needs_far_more_edges_than_the_best_is_no_finalist(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    others = iter(range(21, 100))
    sizes: dict[float, int] = {CENTRES["lr"]: 30, search.config.lr: 10}

    def by_number(search: Search, parameters: dict[str, float], share: float) -> int:
        return sizes.setdefault(parameters["lr"], 20 if 20 not in sizes.values() else next(others))

    monkeypatch.setattr(tune, "n_edges", by_number)
    found = list(candidates(search, STANDARD))
    assert len(found) == 2 and found[0].lr == pytest.approx(search.config.lr)


def test_every_hyper_parameter_reaches_the_masks() -> None:
    config = mask_config(MaskConfig(), {name: (low * high) ** 0.5 for name, (low, high) in RANGES.items()})
    for name, (low, high) in RANGES.items():
        value = 1 - config.beta2 if name == "one_minus_beta2" else getattr(config, name)
        assert value == pytest.approx((low * high) ** 0.5), name
    assert RANGES.keys() == CENTRES.keys() and all(low <= CENTRES[name] <= high for name, (low, high) in RANGES.items())


def test_a_killed_tuning_goes_on_with_what_it_was_at(
    search: Search, seen: list[tuple[dict[str, float], float]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, whole = tmp_path / "new" / "trials.sqlite", tune.n_edges
    list(candidates(search, STANDARD))
    undisturbed = begun(seen)
    seen.clear()

    def dies_at_the_fourth(search: Search, parameters: dict[str, float], share: float) -> int:
        if len(begun(seen)) == 3:
            raise SystemExit  # as hard as a signal: Optuna records nothing
        return whole(search, parameters, share)

    monkeypatch.setattr(tune, "n_edges", dies_at_the_fourth)
    with pytest.raises(SystemExit):
        list(candidates(search, STANDARD, storage=path))
    monkeypatch.setattr(tune, "n_edges", whole)
    seen.clear()
    first = list(candidates(search, STANDARD, storage=path))
    assert begun(seen)[:2] == undisturbed[2:4] and len(begun(seen)) == N_TRIALS - 2
    seen.clear()
    assert list(candidates(search, STANDARD, storage=path)) == first and not seen


def test_another_search_has_trials_of_its_own(
    search: Search, seen: list[tuple[dict[str, float], float]], tmp_path: Path
) -> None:
    path = tmp_path / "trials.sqlite"
    list(candidates(search, STANDARD, storage=path))
    list(candidates(search.with_masks(MaskConfig(n_steps=7)), STANDARD, storage=path))
    assert len(begun(seen)) == 2 * N_TRIALS


def test_workers_need_a_file_and_counts_are_positive(search: Search) -> None:
    with pytest.raises(UserError, match="storage"):
        list(candidates(search, TuneConfig(budget=Budget.standard, n_workers=2)))
    with pytest.raises(UserError, match="at least 1"):
        TuneConfig(n_workers=0)


def test_a_trial_learns_with_its_share_of_the_steps(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    learn: Callable[[Search], object] = Search.nodes

    def nodes(self: Search) -> object:
        steps.append(self.config.n_steps)
        return learn(self)

    monkeypatch.setattr(Search, "nodes", nodes)
    short = search.with_masks(MaskConfig(n_steps=8, n_pairs=4))
    assert all(n_edges(short, CENTRES, share) > 0 for share in SHARES)
    assert steps == [round(share * 8) for share in SHARES]


def test_trials_run_at_the_same_time_and_come_to_what_one_after_the_other_would(
    search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None passes before another has come."""
    both = get_context("fork").Barrier(2, timeout=60)
    monkeypatch.setattr(tune, "SHARES", (1.0,))  # every trial goes as far as its neighbour

    def measure(search: Search, parameters: dict[str, float], share: float) -> int:
        return round(1e6 * parameters["lr"])

    def together(search: Search, parameters: dict[str, float], share: float) -> int:
        both.wait()
        return measure(search, parameters, share)

    monkeypatch.setattr(tune, "n_edges", measure)
    one_by_one = list(candidates(search, STANDARD))
    monkeypatch.setattr(tune, "n_edges", together)
    torch.set_num_threads(2)
    assert list(candidates(search, STANDARD)) == one_by_one


def test_pruned_trials_count_as_finished_with_what_they_had_come_to(
    search: Search, seen: list[tuple[dict[str, float], float]], tmp_path: Path
) -> None:
    path = tmp_path / "trials.sqlite"
    list(candidates(search, STANDARD, storage=path))
    (summary,) = optuna.get_all_study_summaries(f"sqlite:///{path}")
    trials = optuna.load_study(study_name=summary.study_name, storage=f"sqlite:///{path}").trials
    states = {state: [trial for trial in trials if trial.state is state] for state in (TrialState.COMPLETE, TrialState.PRUNED)}
    assert len(trials) == N_TRIALS == sum(map(len, states.values())) and all(states.values())
    assert all(trial.value == round(1e6 * trial.params["lr"]) for trial in trials)
