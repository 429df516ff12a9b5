"""Objectives: what a step removes, and that nothing else gets a gradient."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sparse_circuits.circuits.discovery.objective import Objective, choose_removed, seen_mask

N_UNITS = 40


def draw(objective: Objective, kept: Tensor, loss_of: Callable = torch.sum, *, seed: int = 0) -> Tensor:
    return choose_removed(objective, kept, loss_of, generator=torch.Generator().manual_seed(seed))


def kept_units() -> Tensor:
    return torch.arange(N_UNITS) % 4 == 0


def test_full_removes_everything() -> None:
    assert draw(Objective.full, kept_units()).all()


def test_partial_removes_any_number_from_none_to_all_and_any_unit() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [choose_removed(Objective.partial, kept_units(), torch.sum, generator=generator) for _ in range(2000)]
    share = torch.stack(drawn).double().mean(1)
    assert share.min() == 0 and share.max() == 1
    # A rate spread evenly over 0 to 1 has mean 1/2 and variance 1/12; drawing units at that rate adds 1/6 over their number.
    assert abs(share.mean() - 0.5) < 0.03 and abs(share.var() - (1 / 12 + 1 / 6 / N_UNITS)) < 0.01
    each = torch.stack(drawn).double().mean(0)
    assert (each - 0.5).abs().max() < 0.06


@pytest.mark.parametrize("objective", [Objective.partial, Objective.adversarial])
def test_draws_follow_the_generator(objective: Objective) -> None:
    """The adversary climbs from a random start, which decides here: away from shares of one half."""
    drawn = [draw(objective, kept_units(), lambda share: ((share - 0.5) ** 2).sum(), seed=seed) for seed in (3, 3, 4)]
    assert torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[0], drawn[2])


@given(st.lists(st.floats(-5, 5).filter(lambda effect: abs(effect) > 1e-3), min_size=1, max_size=30), st.randoms())
def test_the_adversary_removes_exactly_what_hurts(effects: list[float], random) -> None:
    """Where effects add up, the worst part of the outside is every unit whose removal raises the loss."""
    effect = torch.tensor(effects)
    kept = torch.tensor([random.random() < 0.3 for _ in effects])
    shares = []

    def loss_of(share: Tensor) -> Tensor:
        shares.append(share.detach())
        return (effect * (1 - share)).sum()

    removed = draw(Objective.adversarial, kept, loss_of, seed=random.randrange(100))
    assert torch.equal(removed[~kept], effect[~kept] > 0)
    assert shares and all((share[kept] == 1).all() and ((share >= 0) & (share <= 1)).all() for share in shares)


def test_units_that_stay_are_on_and_get_no_gradient() -> None:
    mask = torch.tensor([0.3, -0.2, 0.1, -0.4], dtype=torch.float64, requires_grad=True)
    removed = torch.tensor([True, True, False, False])
    seen = seen_mask(mask, removed)
    assert (seen > 0).tolist() == [True, False, True, True] and torch.equal(seen[:2], mask[:2])
    (gradient,) = torch.autograd.grad((seen * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum(), mask)
    assert gradient.tolist() == [1.0, 2.0, 0.0, 0.0]
