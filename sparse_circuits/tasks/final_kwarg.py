"""Task 2: after arguments with defaults, the last one must have a default too."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task

N_BEFORE = ((2, 3), (2, 3), (4, 6), (1, 2), (2, 4), (3, 6))
"""Arguments before the last, with and without default: 2 are as long as 3 where `=None` is one token, as 4 where it is two."""


def generate(draw: Draw) -> Pair:
    *names, last = draw.names(7)
    n_defaults, n_plain = draw.choice(N_BEFORE)
    defaults = ", ".join(f"{name}=None" for name in names[:n_defaults])
    plain = ", ".join(names[:n_plain])
    start = f"{draw.end_of_function()}def {draw.function()}("
    return draw.pair(f"{start}{defaults}, {last}", f"{start}{plain}, {last}", answers=("=None", "):\n"))


TASK = Task("final_kwarg", "`def f(data=None, key` goes on with `=None`, `def f(data, items, key` with `):`", generate)
