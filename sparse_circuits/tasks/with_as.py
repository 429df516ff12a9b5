"""Task 6: the file that a `with` opens gets a name behind it, an assignment ends its line."""

from __future__ import annotations

from sparse_circuits.data.words import EXTENSIONS
from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    call = f'open("{draw.words(1)}.{draw.choice(EXTENSIONS)}", "{draw.choice(("r", "w"))}'
    return draw.pair(
        f"{draw.indent}with {call}",
        f"{draw.indent}{draw.name()} = {call}",
        answers=('") as f:\n', '")\n'),
        longer_by=(-1, -1, -2),
    )


TASK = Task("with_as", '`with open("a.txt", "r` goes on with `") as`, `file = open("a.txt", "r` ends', generate)
