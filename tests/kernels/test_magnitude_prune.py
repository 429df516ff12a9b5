"""Magnitude pruning: equal to one stable sort, exact counts, floors, ties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.kernels.magnitude_prune import magnitude_prune_, op, reference


def both(weight: torch.Tensor, l0: int, **options: int) -> tuple[torch.Tensor, torch.Tensor]:
    ours, expected = weight.clone(), weight.clone()
    magnitude_prune_(ours, l0, **options)
    reference.magnitude_prune_(expected, l0, **options)
    return ours, expected


@pytest.mark.parametrize("shape", [(40, 30), (700, 300), (257, 1024)])
@pytest.mark.parametrize("density", [0.02, 0.1, 0.5, 0.99])
@pytest.mark.parametrize(("floor", "neuron_axis"), [(0, 0), (1, 0), (4, 0), (4, 1)])
def test_equals_the_stable_sort(shape: tuple[int, int], density: float, floor: int, neuron_axis: int) -> None:
    weight = torch.randn(shape) * torch.rand(shape[0], 1)
    l0 = max(int(density * weight.numel()), floor * shape[neuron_axis])
    ours, expected = both(weight, l0, floor=floor, neuron_axis=neuron_axis)
    assert torch.equal(ours, expected)
    assert ours.count_nonzero() == l0
    assert ((ours != 0).sum(1 - neuron_axis) >= floor).all()


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 3.0]), min_size=24, max_size=24),
    l0=st.integers(8, 24),
    floor=st.integers(0, 2),
    neuron_axis=st.integers(0, 1),
)
def test_ties_and_zeros(values: list[float], l0: int, floor: int, neuron_axis: int) -> None:
    l0 = max(l0, floor * (4, 6)[neuron_axis])
    weight = torch.tensor(values).view(4, 6)
    ours, expected = both(weight, l0, floor=floor, neuron_axis=neuron_axis)
    assert torch.equal(ours, expected)
    assert ours.count_nonzero() == min(l0, weight.count_nonzero())


def test_a_misleading_sample_costs_time_only() -> None:
    stride = 700 * 300 // op.SAMPLE_SIZE
    weight = torch.rand(700 * 300) + 1
    weight[::stride] *= 1e-3
    ours, expected = both(weight.view(700, 300), 100_000)
    assert torch.equal(ours, expected)


def test_pruning_again_changes_nothing_and_leaves_clean_zeros() -> None:
    weight = -torch.rand(30, 20)
    magnitude_prune_(weight, 60, floor=2)
    again = weight.clone()
    magnitude_prune_(again, 60, floor=2)
    assert torch.equal(weight, again)
    assert not np.signbit(weight[weight == 0].numpy()).any()


def test_vectors_have_no_floor() -> None:
    ours, expected = both(torch.randn(500), 37)
    assert torch.equal(ours, expected)


def test_refuses_a_budget_below_the_floor() -> None:
    with pytest.raises(ValueError, match="cannot hold a floor of 4 in 10 neurons"):
        magnitude_prune_(torch.randn(10, 8), 39, floor=4)
