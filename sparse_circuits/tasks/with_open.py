"""Task 8: the name of a file tells whether it is read or written."""

from __future__ import annotations

from sparse_circuits.data.words import EXTENSIONS, INPUT_FILES, OUTPUT_FILES
from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    name, extension = draw.name(), draw.choice(EXTENSIONS)
    return draw.pair(
        f'{draw.indent}with open("{draw.choice(INPUT_FILES)}.{extension}", "',
        f'{draw.indent}with open("{draw.choice(OUTPUT_FILES)}.{extension}", "',
        answers=('r") as f:\n', 'w") as f:\n'),
        longer_by=(0, 0, 1, -1),
        functions=draw.choice((None, (f"load_{name}", f"save_{name}"))),
    )


TASK = Task("with_open", '`open("input.txt", "` goes on with `r`, `open("output.txt", "` with `w`', generate)
