"""Task 15: a colon opens a block, which stands one level deeper than what follows an assignment."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    name, items, answer = draw.names(3)
    return draw.pair(
        f"{draw.indent}for {name} in {items}:\n",
        f"{draw.indent}{name} = not {items}\n",
        answers=(f"{draw.indent}    {answer}", f"{draw.indent}{answer}"),
    )


TASK = Task("indent_for", "the line after `for node in graph:` stands deeper than the one after `node = not graph`", generate)
