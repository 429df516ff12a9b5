"""Task 18: two loop variables go with `enumerate`, a lone counter with `range`."""

from __future__ import annotations

from sparse_circuits.data.words import INDEX_NAMES
from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    i, name, items = draw.choice(INDEX_NAMES), draw.name(), draw.name()
    return draw.pair(
        f"{draw.indent}for {i}, {name} in",
        f"{draw.indent}for {i} in",
        answers=(f" enumerate({items}):\n", f" range({items}):\n"),
        longer_by=(2, 2, 3),
    )


TASK = Task("enumerate_range", "`for i, node in` goes on with ` enumerate`, `for i in` with ` range`", generate)
