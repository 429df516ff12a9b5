"""Discretisation: ranks without chance, and the smallest size on losses that are not monotone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits.circuits.discovery.discretise import N_BELOW, discretise, smallest_size, top_units
from sparse_circuits.circuits.margin import pooled, score
from sparse_circuits.tasks.calibrate import calibrate

SIGNS = torch.tensor([1.0, 1.0, -1.0, -1.0])
"""Right answers to two pairs."""


def test_top_units_by_parameter_ties_to_the_first() -> None:
    mask = torch.tensor([0.5, 1.0, 0.5, -1.0, 1.0, 0.5])
    assert top_units(mask, 3).tolist() == [True, True, False, False, True, False]
    assert top_units(mask, 0).sum() == 0 and top_units(mask, 6).all()


@given(threshold=st.integers(1, 300), start=st.integers(0, 300))
def test_finds_the_threshold_of_a_monotone_loss_from_any_start(threshold: int, start: int) -> None:
    assert smallest_size(lambda k: k >= threshold, start=start, largest=300) == threshold


def test_gives_up_where_nothing_reaches_the_target() -> None:
    assert smallest_size(lambda k: False, start=5, largest=40) is None


def test_a_good_size_above_the_start_does_not_hide_one_below() -> None:
    """Sizes 60 to 99 are good, 100 to 199 spoilt, 200 and more good again: a bisection over all sizes would end at 200."""
    assert smallest_size(lambda k: 60 <= k < 100 or k >= 200, start=90, largest=400) == 60


def test_tries_the_sizes_just_below_the_result() -> None:
    """Bisection from 64 ends at 33, with 32 bad; 30 and 20 are good, and only 16 sizes are tried below."""
    tried: list[int] = []

    def reaches(k: int) -> bool:
        tried.append(k)
        return k >= 33 or k in (30, 20)

    assert smallest_size(reaches, start=64, largest=100) == 20
    assert min(tried[-N_BELOW:]) == 33 - N_BELOW
    assert smallest_size(lambda k: k >= 33 or k == 33 - N_BELOW - 1, start=64, largest=100) == 33
    assert smallest_size(reaches, start=64, largest=100, n_below=0) == 33
    assert smallest_size(reaches, start=64, largest=100, n_below=3) == 30


@given(st.lists(st.booleans(), min_size=2, max_size=80), st.integers(0, 80))
def test_whatever_the_loss_the_answer_reaches_the_target(good: list[bool], start: int) -> None:
    good[-1] = True
    found = smallest_size(lambda k: good[k], start=min(start, len(good) - 1), largest=len(good) - 1)
    assert found is not None and good[found]


@pytest.mark.parametrize("seed", range(10))
def test_the_set_is_the_top_of_the_ranking_and_reaches_the_target(seed: int) -> None:
    """Every unit adds to a margin that no calibration enlarges; whether all of them together suffice depends on the seed."""
    generator = torch.Generator().manual_seed(seed)
    rank, weight = torch.randn(2, 12, generator=generator)
    weight = weight + 0.3

    def margins(kept: Tensor) -> Tensor:
        return ((kept * weight).sum() * SIGNS).unsqueeze(0)

    found = discretise(rank, margins, start=4, target_loss=0.3, max_scale=1.0)
    everything = margins(torch.ones(12))[0]
    if found is None:
        assert score(calibrate(everything, max_scale=1.0)(everything)).loss > 0.3
        return
    margin = margins(found.kept)[0]
    assert found.calibration == calibrate(margin, max_scale=1.0)
    assert score(found.calibration(margin)).loss <= 0.3
    assert torch.equal(found.kept, top_units(rank, int(found.kept.sum())))


def test_the_calibration_is_fitted_to_what_need_not_reach_the_target_too() -> None:
    also = -SIGNS - 3.0
    run = 4.0 * SIGNS
    found = discretise(torch.ones(1), lambda kept: [run], start=1, target_loss=0.5, max_scale=1.0, also=[also])
    assert found.calibration == calibrate(pooled(torch.stack([run, also])), max_scale=1.0)
    assert found.calibration.shift > 0.3 and score(found.calibration(also)).loss > 0.5


def test_all_runs_have_to_reach_the_target_with_one_calibration() -> None:
    """The first run has its answers from two units, the second needs four; a shift that serves one alone serves neither."""
    rank = torch.arange(6.0, 0.0, -1.0)

    def margins(kept: Tensor) -> Tensor:
        n = kept.sum()
        return torch.stack([torch.where(n >= need, 4.0, 0.1) * SIGNS for need in (2, 4)])

    found = discretise(rank, margins, start=1, target_loss=0.1, max_scale=1.0)
    assert found.kept.tolist() == [True] * 4 + [False] * 2
    assert found.calibration == calibrate(pooled(margins(found.kept)), max_scale=1.0)
    assert all(score(run).loss <= 0.1 for run in found.calibration(margins(found.kept)))
    alone = discretise(rank, lambda kept: margins(kept)[:1], start=1, target_loss=0.1, max_scale=1.0)
    assert alone.kept.sum() == 2

    def apart(kept: Tensor) -> Tensor:
        return torch.stack([4 * SIGNS + shift for shift in (4.0, -4.0)])

    assert discretise(rank, apart, start=1, target_loss=0.1, max_scale=1.0) is None
    for run in (0, 1):
        assert discretise(rank, lambda kept, run=run: apart(kept)[[run]], start=1, target_loss=0.1, max_scale=1.0)
