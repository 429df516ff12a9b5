"""Discretisation: ranks without chance, and the smallest size on losses that are not monotone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.circuits.discretise import N_BELOW, smallest_size, top_nodes


def test_top_nodes_by_parameter_ties_to_the_first() -> None:
    mask = torch.tensor([0.5, 1.0, 0.5, -1.0, 1.0, 0.5])
    assert top_nodes(mask, 3).tolist() == [True, True, False, False, True, False]
    assert top_nodes(mask, 0).sum() == 0 and top_nodes(mask, 6).all()


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


@given(st.lists(st.booleans(), min_size=2, max_size=80), st.integers(0, 80))
def test_whatever_the_loss_the_answer_reaches_the_target(good: list[bool], start: int) -> None:
    good[-1] = True
    found = smallest_size(lambda k: good[k], start=min(start, len(good) - 1), largest=len(good) - 1)
    assert found is not None and good[found]
