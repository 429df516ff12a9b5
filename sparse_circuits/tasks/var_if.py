"""Task 19: a comparison after `if` ends with a colon, an assignment ends its line."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Scoring, Task


def generate(draw: Draw) -> Pair:
    name, constant = draw.name(), draw.constant()
    positive, negative = f"{draw.indent}if {name} == {constant}", f"{draw.indent}{name} = {constant}"
    return draw.pair(positive, negative, answers=(":", "\n"), longer_by=(1,))


TASK = Task("var_if", "`if value == True` goes on with `:`, `value = True` with a new line", generate, Scoring.prefix_set)
