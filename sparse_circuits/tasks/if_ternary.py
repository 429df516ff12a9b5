"""Task 13: the `if` of a conditional expression needs an `else`, the one of a statement a colon."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task

CONDITIONS = ("{}", "{}", "not {}", "{} == {}", "{} < {}")


def generate(draw: Draw) -> Pair:
    name, data, other = draw.names(3)
    method, condition = draw.choice(("get", "copy", "pop")), draw.choice(CONDITIONS).format(*draw.names(2))
    return draw.pair(
        f"{draw.indent}{name} = {data}.{method}() if {condition}",
        f"{draw.indent}{name} = {data}\n{draw.indent}if {condition}",
        answers=(f" else {other}\n", ":\n"),
        longer_by=(0, 0, 1, 2),
    )


TASK = Task("if_ternary", "`value = data.get() if graph` goes on with ` else`, the statement `if graph` with `:`", generate)
