"""Calibration: the best line with a positive slope, and never one that solves the opposite task."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.tasks.calibrate import Calibration, calibrate
from sparse_circuits.tasks.score import task_losses

UNBOUNDED = 1e6
RIGHT = torch.cat([torch.ones(50), -torch.ones(50)])


def loss(margin: torch.Tensor) -> float:
    return task_losses(margin).mean().item()


def noisy(scale: float, shift: float) -> torch.Tensor:
    """Margins that are right about nine times in ten, squeezed and moved."""
    return scale * (1.3 * RIGHT + torch.randn(100)) + shift


@pytest.mark.parametrize("size", [1e-2, 1.0, 1e3])
def test_finds_the_best_line_whatever_the_size_of_the_margins(size: float) -> None:
    margin = noisy(size, 5 * size)
    found = loss(calibrate(margin, max_scale=UNBOUNDED)(margin))
    grid = min(
        loss(Calibration(scale / size, shift)(margin))
        for scale in torch.linspace(0.5, 4, 12).tolist()
        for shift in torch.linspace(-15, 0, 31).tolist()
    )
    assert found < grid + 1e-3


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-50, 50), min_size=4, max_size=4), st.floats(0.1, 1e4))
def test_scale_stays_between_zero_and_its_bound(values: list[float], max_scale: float) -> None:
    found = calibrate(torch.tensor(values), max_scale=max_scale)
    assert 0 <= found.scale <= max_scale and math.isfinite(found.shift)
    assert calibrate(torch.tensor([1.0, 2.0, -1.0, -2.0]), max_scale=max_scale).scale > 0


def test_a_hundredth_of_a_nat_is_no_answer_under_a_bound() -> None:
    margin = 0.01 * RIGHT + 3
    assert loss(calibrate(margin, max_scale=UNBOUNDED)(margin)) < 0.1
    assert loss(calibrate(margin, max_scale=2.0)(margin)) > 0.6


def test_the_swapped_task_stays_unsolved() -> None:
    margin = -noisy(1.0, 0.3)
    assert loss(calibrate(margin, max_scale=UNBOUNDED)(margin)) > 0.69
    assert loss(calibrate(-margin, max_scale=UNBOUNDED)(-margin)) < 0.4


def test_margins_that_say_nothing_become_even_odds() -> None:
    margin = torch.full((10,), 7.0) + 1e-6 * torch.randn(10)
    assert abs(loss(calibrate(margin, max_scale=UNBOUNDED)(margin)) - math.log(2)) < 1e-2
