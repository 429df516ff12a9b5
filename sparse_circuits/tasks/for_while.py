"""Task 10: a `for` line goes on with `in`, a `while` line may end after its name."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    name = draw.name()
    return draw.pair(f"{draw.indent}for {name}", f"{draw.indent}while {name}", answers=(" in", ":\n"))


TASK = Task("for_while", "`for node` goes on with ` in`, `while node` with `:`", generate)
