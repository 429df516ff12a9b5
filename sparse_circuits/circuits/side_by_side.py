"""Independent work side by side: on a CPU, one piece for every core, each operation on one thread.

The operations of small models are too small to gain from a second thread, and where another program holds a core up, both wait
for it. On a GPU one piece follows the other.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import islice
from multiprocessing import current_process, get_context
from typing import Generic, TypeVar
from weakref import finalize

import torch

SWITCH = 5e-4
"""Seconds after which a thread that waits for the interpreter gets it; operations take about as long."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(function: Callable[[Item], Result], items: Iterable[Item], *, device: torch.device) -> Iterator[Result]:
    """Yield the results in the order of the items, no more begun than there are cores: who stops early wastes little.

    Args:
        function: what it returns must not depend on the order of its calls. It runs without gradients.
        items: what to call it with.
        device: where it computes.
    """
    n_threads, call = torch.get_num_threads(), torch.no_grad()(function)  # every thread has a switch of its own
    if device.type != "cpu" or n_threads == 1:
        yield from map(call, items)
        return
    switch = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        with on_one_thread(device):
            yield from _in_order(_threads(n_threads), call, items, n_at_once=n_threads)
    finally:
        sys.setswitchinterval(switch)


@contextmanager
def on_one_thread(device: torch.device) -> Iterator[None]:
    """Run each operation on one thread where the device is a CPU."""
    n_threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


class Workers(Generic[Item, Result]):
    """The same for work that is more interpreter than arithmetic, in which threads wait for one another: forked processes.

    They hold what the function refers to as it was when they began, with the first call. Where processes cannot fork, or
    autograd would not follow, threads.

    Args:
        function: as for `side_by_side`; what it is called with and what it returns is pickled.
        device: where it computes.
        n_ahead: how many more to begin than there are cores, so that after short work none of them waits for the next.
    """

    def __init__(self, function: Callable[[Item], Result], *, device: torch.device, n_ahead: int = 0) -> None:
        self._function, self._device, self._n_ahead = torch.no_grad()(function), device, n_ahead
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, items: Iterable[Item]) -> Iterator[Result]:
        """Yield the results in the order of the items."""
        n_cores = torch.get_num_threads()
        if self._device.type != "cpu" or n_cores == 1 or not _can_fork():
            yield from side_by_side(self._function, items, device=self._device)
            return
        if self._pool is None:
            # Forked, it hands the function on as it is: nothing of it is copied.
            self._pool = ProcessPoolExecutor(n_cores, get_context("fork"), _begin, (self._function,))
            finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)
        yield from _in_order(self._pool, _call, items, n_at_once=n_cores + self._n_ahead)


def _can_fork() -> bool:
    """Return whether forked processes can compute here: autograd refuses to where there is a GPU, even if it is not used.

    A daemon, such as a process of multiprocessing.Pool, must not have any.
    """
    return sys.platform == "linux" and not torch.accelerator.is_available() and not current_process().daemon


def _in_order(pool: Executor, function: Callable[[Item], Result], items: Iterable[Item], *, n_at_once: int) -> Iterator[Result]:
    rest, begun = iter(items), deque()
    try:
        begun.extend(pool.submit(function, item) for item in islice(rest, n_at_once))
        while begun:
            yield begun.popleft().result()
            begun.extend(pool.submit(function, item) for item in islice(rest, 1))
    finally:
        for future in begun:
            future.cancel()
        if isinstance(pool, ThreadPoolExecutor):  # they run in this process, which must not go on as if they did not
            wait(begun)


@cache
def _threads(n_threads: int) -> ThreadPoolExecutor:
    """Return threads that stay: what each sets up in its first operations is set up once."""
    return ThreadPoolExecutor(n_threads)


def _begin(function: Callable[[Item], Result]) -> None:
    """Begin a worker process: it computes on one thread, and an interruption ends it without a word."""
    global _function
    _function = function
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _call(item: Item) -> Result:
    return _function(item)


if hasattr(os, "register_at_fork"):  # a forked process has the pool and none of its threads: it would wait for ever
    os.register_at_fork(after_in_child=_threads.cache_clear)
