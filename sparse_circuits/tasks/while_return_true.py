"""Task 20: `while True` is followed by a colon, `return True` by the end of its line."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Scoring, Task


def generate(draw: Draw) -> Pair:
    return draw.pair(f"{draw.indent}while True", f"{draw.indent}return True", answers=(":\n", "\n"))


TASK = Task(
    "while_return_true",
    "`while True` goes on with `:`, `return True` with anything but `:`",
    generate,
    Scoring.complement,
)
