"""Task 9: a nested list closes twice, a flat one once."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    before = "".join(f"{draw.indent}{draw.name()} = {_complete_list(draw)}\n" for _ in range(draw.number(0, 2)))
    start, numbers = f"{before}{draw.indent}{draw.name()} = ", ", ".join(map(str, draw.numbers(draw.number(2, 10))))
    return draw.pair(f"{start}[[{numbers}", f"{start}[{numbers}", answers=("]]\n", "]\n"), longer_by=(0, 0, 1))


def _complete_list(draw: Draw) -> list[int] | list[list[int]]:
    row = draw.numbers(draw.number(2, 4))
    return draw.choice((row, [row]))


TASK = Task("bracket_counting", "`[[1, 2, 3` closes with `]]`, `[1, 2, 3` with `]`", generate)
