"""Task 5: an attribute is bound to the argument of its own name."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    attributes = draw.names(draw.number(3, 7))
    n_bound = draw.number(1, len(attributes) - 2)
    bound = "".join(f"        self.{attribute} = {attribute}\n" for attribute in attributes[:n_bound])
    header = f"class {draw.name().capitalize()}:\n    def __init__(self, {', '.join(attributes)}):\n"
    start = f"{draw.end_of_function()}{header}{bound}        self."
    positive, negative, *_ = draw.shuffled(attributes[n_bound:])
    answers = f" {positive}\n", f" {negative}\n"
    return draw.pair(f"{start}{positive} =", f"{start}{negative} =", answers=answers)


TASK = Task("class_init", "in `__init__`, `self.edges =` goes on with ` edges`, `self.nodes =` with ` nodes`", generate)
