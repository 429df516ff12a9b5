"""Tuning: the paper's centres first, the best first out, nothing lost when killed, losers stopped early."""

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
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


@pytest.fixture
def search(toy: Toy) -> Search:
    return prepare_search(toy.model, TASK, toy.tokenizer, toy.means, config=EXTRACT)


@pytest.fixture
def quick_trials(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Trials without mask learning: the smaller the learning rate, the fewer the edges."""
    seen: list[dict[str, float]] = []

    def objective(search: Search, trial: optuna.Trial) -> float:
        seen.append({name: trial.suggest_float(name, *bounds, log=True) for name, bounds in RANGES.items()})
        return 1e4 * seen[-1]["lr"]

    monkeypatch.setattr(tune, "n_edges", objective)
    return seen


def test_the_quick_budget_is_the_configuration_as_it_is(search: Search) -> None:
    assert list(candidates(search, TuneConfig())) == [search.config]


def test_begins_with_the_papers_centres_and_ends_with_the_best_first(
    search: Search, quick_trials: list[dict[str, float]]
) -> None:
    found = list(candidates(search, STANDARD))
    assert len(quick_trials) == tune.EFFORT[Budget.standard].n_trials
    assert quick_trials[0] == CENTRES
    assert quick_trials[1]["lr"] == search.config.lr and quick_trials[1]["k_coef"] == search.config.k_coef
    best = sorted(trial["lr"] for trial in quick_trials)[: STANDARD.n_finalists]
    assert [config.lr for config in found] == [lr for lr in best if lr <= tune.IN_REACH * best[0]]
    assert all(config.objective is search.config.objective and config.n_steps == search.config.n_steps for config in found)


def test_what_needs_far_more_edges_than_the_best_is_no_finalist(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_number(search: Search, trial: optuna.Trial) -> float:
        for name, bounds in RANGES.items():
            trial.suggest_float(name, *bounds, log=True)
        return [30.0, 10.0, 20.0, 21.0][min(trial.number, 3)]

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
    search: Search, quick_trials: list[dict[str, float]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, whole = tmp_path / "new" / "trials.sqlite", tune.n_edges

    def dies_at_the_fourth(search: Search, trial: optuna.Trial) -> float:
        if trial.number == 3:
            trial.suggest_float("lr", *RANGES["lr"], log=True)
            raise SystemExit  # as hard as a signal: Optuna records nothing
        return whole(search, trial)

    monkeypatch.setattr(tune, "n_edges", dies_at_the_fourth)
    with pytest.raises(SystemExit):
        list(candidates(search, STANDARD, storage=path))
    monkeypatch.setattr(tune, "n_edges", whole)
    first = list(candidates(search, STANDARD, storage=path))
    assert len(quick_trials) == tune.EFFORT[Budget.standard].n_trials
    assert list(candidates(search, STANDARD, storage=path)) == first
    assert len(quick_trials) == tune.EFFORT[Budget.standard].n_trials


def test_another_search_has_trials_of_its_own(search: Search, quick_trials: list[dict[str, float]], tmp_path: Path) -> None:
    path = tmp_path / "trials.sqlite"
    list(candidates(search, STANDARD, storage=path))
    list(candidates(search.with_masks(MaskConfig(n_steps=7)), STANDARD, storage=path))
    assert len(quick_trials) == 2 * tune.EFFORT[Budget.standard].n_trials


def test_workers_need_a_file_and_counts_are_positive(search: Search) -> None:
    with pytest.raises(UserError, match="storage"):
        list(candidates(search, TuneConfig(budget=Budget.standard, n_workers=2)))
    with pytest.raises(UserError, match="at least 1"):
        TuneConfig(n_workers=0)


class FakeTrial:
    """Reports to a list, and is pruned when told."""

    def __init__(self, is_bad: bool) -> None:
        self.is_bad, self.reports = is_bad, []

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return CENTRES[name]

    def report(self, value: float, step: int) -> None:
        self.reports.append((step, value))

    def should_prune(self) -> bool:
        return self.is_bad


@pytest.mark.parametrize("is_bad", [True, False])
def test_a_trial_learns_with_more_and_more_steps_unless_it_is_stopped(
    search: Search, is_bad: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    learn: Callable[[Search], object] = Search.nodes

    def nodes(self: Search) -> object:
        steps.append(self.config.n_steps)
        return learn(self)

    monkeypatch.setattr(Search, "nodes", nodes)
    short, trial = search.with_masks(MaskConfig(n_steps=8, n_pairs=4)), FakeTrial(is_bad)
    if is_bad:
        with pytest.raises(optuna.TrialPruned):
            n_edges(short, trial)
        assert steps == [2]
    else:
        assert n_edges(short, trial) == trial.reports[-1][1] > 0
        assert steps == [round(share * 8) for share in SHARES]


def test_pruned_trials_count_as_finished(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[TrialState] = []

    def objective(search: Search, trial: optuna.Trial) -> float:
        states.append(TrialState.RUNNING)
        if trial.number % 2:
            raise optuna.TrialPruned
        return trial.suggest_float("lr", *RANGES["lr"], log=True)

    monkeypatch.setattr(tune, "n_edges", objective)
    monkeypatch.setattr(tune, "mask_config", lambda config, parameters: config)
    list(candidates(search, STANDARD))
    assert len(states) == tune.EFFORT[Budget.standard].n_trials
