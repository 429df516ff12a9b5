"""Task 12: an f-string comes to a field, a plain string closes."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task

CALLS = ("print", "print", "input", "raise ValueError")


def generate(draw: Draw) -> Pair:
    call, text = draw.indent + draw.choice(CALLS), draw.words(draw.number(1, 4))
    longer_text = f"{draw.words(1)} {text}"
    return draw.pair(
        f'{call}(f"{text}',
        f'{call}("{draw.choice((text, longer_text))}',
        answers=(f" {{{draw.name()}}}", '")\n'),
        longer_by=(0, 0, 1, -1),
    )


TASK = Task("fstring_brace", '`print(f"total cost` goes on with ` {`, `print("total path cost` with `")`', generate)
