"""Independent work side by side: on a CPU, one piece for every core, each operation on one thread.

The operations of small models are too small to gain from a second thread. On a GPU one piece follows the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import torch

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
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(n_threads) as pool:
            rest = iter(items)
            begun = deque(pool.submit(call, item) for item in islice(rest, n_threads))
            while begun:
                yield begun.popleft().result()
                begun.extend(pool.submit(call, item) for item in islice(rest, 1))
    finally:
        torch.set_num_threads(n_threads)
