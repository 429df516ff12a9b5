"""Task 17: a name after `if` is compared, a name that opens a line is assigned."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    name, constant = draw.name(), draw.constant()
    return draw.pair(
        f"{draw.indent}if {name}",
        f"{draw.indent}{name}",
        answers=(f" == {constant}:\n", f" = {constant}\n"),
        longer_by=(1,),
    )


TASK = Task("if_equals", "`if value` goes on with ` ==`, `value` at the start of a line with ` =`", generate)
