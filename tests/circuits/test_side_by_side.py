"""Side by side: the same results in the same order, on one thread each, and nothing done that is not asked for."""

import os
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context

import pytest
import torch

from sparse_circuits.circuits.side_by_side import Workers, side_by_side

CPU = torch.device("cpu")


def exit_code(work: Callable[[], None], *, daemon: bool = False) -> int:
    """Return how a forked process ends that does this work."""
    child = get_context("fork").Process(target=work, daemon=daemon)
    child.start()
    child.join(60)
    child.kill()
    return child.exitcode


def test_results_come_in_order_without_gradients_each_on_one_thread(n_threads: int) -> None:
    weight = torch.ones(3, requires_grad=True)

    def work(item: int) -> tuple[int, bool, int, int]:
        time.sleep(0.02 * (4 - item))
        return item, (item * weight).requires_grad, torch.get_num_threads(), threading.get_ident()

    found = list(side_by_side(work, range(4), device=CPU))
    assert [row[:3] for row in found] == [(item, False, 1) for item in range(4)]
    assert (len({row[3] for row in found}) > 1) == (n_threads > 1)
    assert torch.get_num_threads() == n_threads
    assert torch.is_grad_enabled() and (2 * weight).requires_grad


def test_what_is_not_asked_for_is_dropped_and_threads_come_back(n_threads: int) -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.01)
        return item

    results = side_by_side(work, range(100), device=CPU)
    assert next(results) == 0
    results.close()
    assert begun == [*range(n_threads)] and torch.get_num_threads() == n_threads


def test_an_error_is_the_callers_and_threads_come_back(n_threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(side_by_side(lambda item: 1 // item, [1, 0], device=CPU))
    assert torch.get_num_threads() == n_threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_has_threads_of_its_own(n_threads: int) -> None:
    def work() -> None:
        assert list(side_by_side(lambda item: -item, range(4), device=CPU)) == [0, -1, -2, -3]

    work()
    assert exit_code(work) == 0


def test_workers_are_processes_that_stay_and_hold_what_was_there_when_they_began(n_threads: int) -> None:
    weight, state = torch.ones(3, requires_grad=True), ["at the beginning"]

    def work(item: int) -> tuple[int, bool, int, str, int]:
        time.sleep(0.02 * (4 - item))
        return item, (item * weight).requires_grad, torch.get_num_threads(), state[0], os.getpid()

    workers = Workers(work, device=CPU)
    found = list(workers(range(4)))
    assert [row[:4] for row in found] == [(item, False, 1, "at the beginning") for item in range(4)]
    state[0] = "later"
    again = list(workers(range(4)))
    forked = n_threads > 1 and sys.platform == "linux" and not torch.accelerator.is_available()
    assert {row[3] for row in again} == {"at the beginning" if forked else "later"}
    assert {row[4] for row in again} <= {row[4] for row in found} and (os.getpid() in {row[4] for row in found}) != forked
    assert torch.get_num_threads() == n_threads


def test_workers_learn_where_this_process_has_learned(n_threads: int) -> None:
    """Autograd, once used, does not follow everywhere into a forked process."""
    weight = torch.ones(3, requires_grad=True)
    (weight * weight).sum().backward()

    @torch.enable_grad()
    def gradient(item: int) -> list[float]:
        return torch.autograd.grad((item * weight).sum(), [weight])[0].tolist()

    assert list(Workers(gradient, device=CPU)(range(3))) == [[item] * 3 for item in range(3)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_daemon_which_may_not_have_processes_works_with_threads(n_threads: int) -> None:
    def work() -> None:
        assert list(Workers(lambda item: -item, device=CPU)(range(4))) == [0, -1, -2, -3]

    assert exit_code(work, daemon=True) == 0


def test_a_workers_error_is_the_callers(n_threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(Workers(lambda item: 1 // item, device=CPU)([1, 0]))
