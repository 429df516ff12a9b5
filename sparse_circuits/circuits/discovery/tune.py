"""Tuning the eight hyper-parameters of mask learning per model and task (Gao et al. 2025, appendix A.5).

The paper runs 32 rounds of 8 parallel runs with CARBS; we let Optuna's TPE choose, and stop early what does badly. A trial is
learned with a quarter of the steps, then with half, then with all, each time anew with its own schedule, and after each of the
first two only a third of the trials goes on (successive halving). What is minimised is the number of edges among the fewest
top-ranked nodes that reach the target; a trial that did not go on counts with what it had come to. The first trial is the
paper's centres, the second the configuration as it came. Trials are drawn and learned two at a time. They live in one sqlite
file: a killed tuning goes on where it stopped. Its workers share the file; two tunings must not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from enum import Enum
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from sparse_circuits.circuits.card import Control
from sparse_circuits.circuits.discovery.masks import MaskConfig
from sparse_circuits.circuits.discovery.search import Search
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.nodes import channels_of, count_nodes
from sparse_circuits.circuits.side_by_side import Workers
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.model.store import model_hash
from sparse_circuits.plain import to_plain

if TYPE_CHECKING:
    from optuna import Study, Trial


class Budget(Enum):
    """How long to look for good hyper-parameters: not at all, in minutes, or as the paper did."""

    quick = "quick"
    standard = "standard"
    paper = "paper"


class Effort(NamedTuple):
    """What a budget stands for."""

    n_trials: int
    """Of mask learning, with other hyper-parameters."""
    n_halvings: int
    """How often the target is halved while no circuit passes every check: what is chosen on some names loses on others."""
    n_validation_pairs: int
    """Pairs that choose sizes, calibration and clean-up."""
    n_held_out_pairs: int
    """Pairs of the card."""
    n_random: int
    """Random circuits drawn on the card."""
    n_partial: int
    """Random parts of the outside ablated there, at every rate."""
    controls: tuple[Control, ...] = tuple(Control)
    """Where the card searches again."""


EFFORT = {
    Budget.quick: Effort(
        n_trials=0,
        n_halvings=0,
        n_validation_pairs=32,
        n_held_out_pairs=32,
        n_random=20,
        n_partial=8,
        controls=(Control.coin,),
    ),
    Budget.standard: Effort(n_trials=12, n_halvings=1, n_validation_pairs=128, n_held_out_pairs=64, n_random=50, n_partial=32),
    Budget.paper: Effort(n_trials=256, n_halvings=2, n_validation_pairs=128, n_held_out_pairs=64, n_random=50, n_partial=32),
}
SHARES = (0.25, 0.5, 1.0)
"""Of the steps, at the rungs of successive halving."""
REDUCTION = 3
"""One trial in so many climbs to the next rung."""
IN_REACH = 2.0
"""A finalist has at most so many times the edges of the best: what is far behind takes a long clean-up, and is left behind."""

CENTRES = {
    "k_coef": 1e-4,
    "init_noise_scale": 1e-2,
    "init_noise_bias": 1e-1,
    "weight_decay": 1e-3,
    "lr": 3e-3,
    "one_minus_beta2": 5e-2,
    "warmup": 5e-2,
    "heaviside_temp": 1.0,
}
"""The paper's."""
RANGES = {
    "k_coef": (1e-5, 1e-2),
    "init_noise_scale": (1e-3, 1e-1),
    "init_noise_bias": (1e-2, 1.0),
    "weight_decay": (1e-5, 1e-1),
    "lr": (1e-3, 5e-2),
    "one_minus_beta2": (5e-3, 5e-1),
    "warmup": (5e-3, 5e-1),
    "heaviside_temp": (1e-1, 1e1),
}
"""Searched on a logarithmic scale."""
N_AT_ONCE = 2
"""Trials side by side, on however many cores, so that what is found does not depend on the machine."""


@dataclass(frozen=True)
class TuneConfig:
    budget: Budget = Budget.quick
    """quick: a first look, the masks' configuration as it is, on fewer pairs; standard: 12 trials, and half the target where no
    circuit holds; paper: 256 trials, and a quarter of it."""
    n_workers: int = 1
    """Processes that run trials side by side; with several, the order of the trials is no longer the same every time."""
    n_finalists: int = 3
    """Best trials, at most, that are refined and held to the card; the fewest edges among those that hold are kept."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "n_workers", "n_finalists", of="tune.")


def candidates(search: Search, config: TuneConfig, *, storage: Path | None = None) -> Iterator[MaskConfig]:
    """Yield configurations of mask learning, the best first; with the quick budget the search's own alone.

    Args:
        search: the search to tune.
        config: how long.
        storage: sqlite file of the trials; None: in memory, which one process alone can use.
    """
    if not EFFORT[config.budget].n_trials:
        yield search.config
        return
    study = _run_trials(search, config, storage)
    finished = sorted((trial for trial in study.trials if trial.value is not None), key=lambda trial: trial.value)
    for trial in finished[: config.n_finalists]:
        if trial.value <= IN_REACH * finished[0].value:
            yield mask_config(search.config, trial.params)


def mask_config(config: MaskConfig, parameters: dict[str, float]) -> MaskConfig:
    """Return the configuration with a trial's hyper-parameters."""
    changes = {**parameters, "beta2": 1 - parameters["one_minus_beta2"]}
    return replace(config, **{name: value for name, value in changes.items() if name != "one_minus_beta2"})


def _run_trials(search: Search, config: TuneConfig, storage: Path | None) -> Study:
    n_trials = EFFORT[config.budget].n_trials
    if storage is not None:
        storage.parent.mkdir(parents=True, exist_ok=True)
    _try_again(_open(search, storage))
    if config.n_workers == 1:
        return _work(search, n_trials, storage)
    if storage is None:
        raise UserError("Several workers share their trials through a file: give tuning a storage path, or n_workers=1.")
    n_threads = max(1, torch.get_num_threads() // config.n_workers)
    with ProcessPoolExecutor(config.n_workers, get_context("spawn"), torch.set_num_threads, (n_threads,)) as pool:
        list(pool.map(_work_apart, *zip(*[(search, n_trials, storage)] * config.n_workers, strict=True)))
    return _open(search, storage)


def _work_apart(search: Search, n_trials: int, storage: Path) -> None:
    _work(search, n_trials, storage)


def _work(search: Search, n_trials: int, storage: Path | None) -> Study:
    """Run trials until so many are finished in all, by whomever."""
    from optuna.distributions import FloatDistribution
    from optuna.samplers import TPESampler
    from optuna.trial import TrialState

    study = _open(search, storage)
    ranges = {name: FloatDistribution(*bounds, log=True) for name, bounds in RANGES.items()}
    search.run_unpruned()
    measure = Workers(lambda asked: n_edges(search, *asked), device=search.device)
    while (n_left := n_trials - len(study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)))) > 0:
        trials = []
        for _ in range(min(n_left, N_AT_ONCE)):
            # A sampler that forgets nothing when the process is killed: what it draws depends on the trial's number alone.
            study.sampler = TPESampler(seed=search.seed + len(study.trials))
            trials.append(study.ask(ranges))
        _climb(study, trials, measure)
    return study


def _climb(study: Study, trials: list[Trial], measure: Callable[[list[tuple[dict[str, float], float]]], Iterator[int]]) -> None:
    """Let trials climb the rungs side by side, each until a lower one says that others do better."""
    from optuna.trial import TrialState

    for rung, share in enumerate(SHARES, start=1):
        climbing = []
        for trial, edges in zip(trials, list(measure([(trial.params, share) for trial in trials])), strict=True):
            trial.report(edges, rung)
            if share == 1:
                study.tell(trial, edges)
            elif trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
            else:
                climbing.append(trial)
        trials = climbing


def _open(search: Search, storage: Path | None) -> Study:
    import optuna  # takes a second to import, and only tuning needs it

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        study_name=_name(search),
        storage=f"sqlite:///{storage}" if storage else None,
        load_if_exists=True,
        pruner=optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
    )
    if not study.trials:
        study.enqueue_trial(CENTRES)
        own = {name: getattr(search.config, name) for name in CENTRES if name != "one_minus_beta2"}
        study.enqueue_trial({**own, "one_minus_beta2": 1 - search.config.beta2})
    return study


def _try_again(study: Study) -> None:
    """Give what a killed tuning was at to whoever is next."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        study.enqueue_trial(trial.params)


def _name(search: Search) -> str:
    """Name a study by all that its values depend on, so that another search never goes on with its trials."""
    pairs = [hashlib.sha256(batch.tokens.cpu().numpy().tobytes()).hexdigest() for batch in search.pairs]
    said = [model_hash(search.model), pairs, to_plain(search.config), search.target_loss, search.max_scale, search.seed]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def n_edges(search: Search, parameters: dict[str, float], share: float) -> int:
    """Return the edges among the nodes that masks learned in this share of the steps need to reach the target.

    Where none do, all the model's.
    """
    n_steps = max(1, round(share * search.config.n_steps))
    nodes = search.with_masks(replace(mask_config(search.config, parameters), n_steps=n_steps)).nodes()
    kept = torch.ones(count_nodes(search.model.config), dtype=torch.bool) if nodes is None else nodes.kept
    return len(circuit_edges(search.model, channels_of(kept, search.model.config)))
