"""Task 14: a swap ends with the name that began it."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    left, right = draw.names(2)
    positive = f"{draw.indent}{left}, {right} = {right},"
    negative = f"{draw.indent}{right}, {left} = {left},"
    return draw.pair(positive, negative, answers=(f" {left}\n", f" {right}\n"))


TASK = Task("var_swap", "`left, right = right,` goes on with ` left`, `right, left = left,` with ` right`", generate)
