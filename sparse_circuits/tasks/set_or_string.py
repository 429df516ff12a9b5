"""Task 3: how something is added to a variable depends on whether it began as a set or as a string."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task

STARTS = ("set()", '""')


def generate(draw: Draw) -> Pair:
    return pair_for(draw, draw.name())


def pair_for(draw: Draw, name: str) -> Pair:
    """Start `name` as a set and as a string, then come back to it in a loop, with nothing of its name in between."""
    distractor, item, items = draw.names(3)
    between = draw.choice(("", f"{draw.indent}{distractor} = {draw.choice(STARTS)}\n")) + draw.fillers(0, 3)
    loop = f"{draw.indent}for {item} in {items}:\n{draw.indent}    {name}"
    positive, negative = (f"{draw.indent}{name} = {start}\n{between}{loop}" for start in STARTS)
    return draw.pair(positive, negative, answers=(f".add({item})\n", f" += {item}\n"), longer_by=(-1, 0, 1))


TASK = Task("set_or_string", 'what began as `set()` goes on with `.add`, what began as `""` with ` +=`', generate)
