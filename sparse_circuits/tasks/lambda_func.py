"""Task 16: the argument of a lambda is followed by a colon, the name of a function by a bracket."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Scoring, Task


def generate(draw: Draw) -> Pair:
    result, items, name = draw.names(3)
    return draw.pair(
        f"{draw.indent}{result} = {draw.choice(('sorted', 'min', 'max'))}({items}, key=lambda {name}",
        f"{draw.indent}{result} = not {items}\n{draw.indent}def {name}",
        answers=(":", "("),
        longer_by=(0, 0, 1, 1, 1, 2, 3, 4, 4, 4, 5, 5),
    )


TASK = Task("lambda_func", "`key=lambda node` goes on with `:`, `def node` with `(`", generate, Scoring.prefix_set)
