"""Independent work side by side: on a CPU, one piece for every core, each operation on one thread.

The operations of small models are too small to gain from a second thread. On a GPU one piece follows the other.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import islice
from typing import TypeVar

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
    switch, pool = sys.getswitchinterval(), _threads(n_threads)
    torch.set_num_threads(1)
    sys.setswitchinterval(SWITCH)
    rest, begun = iter(items), deque()
    try:
        begun.extend(pool.submit(call, item) for item in islice(rest, n_threads))
        while begun:
            yield begun.popleft().result()
            begun.extend(pool.submit(call, item) for item in islice(rest, 1))
    finally:
        wait(begun)
        torch.set_num_threads(n_threads)
        sys.setswitchinterval(switch)


@cache
def _threads(n_threads: int) -> ThreadPoolExecutor:
    """Return threads that stay: what each sets up in its first operations is set up once."""
    return ThreadPoolExecutor(n_threads)


if hasattr(os, "register_at_fork"):  # a forked process has the pool and none of its threads: it would wait for ever
    os.register_at_fork(after_in_child=_threads.cache_clear)
