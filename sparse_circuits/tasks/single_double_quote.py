"""Task 1: a string closes with the quote that opened it."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task

CALLEES = ("print", "open", "input", "split", "raise ValueError", "raise KeyError")


def generate(draw: Draw) -> Pair:
    call = draw.indent + draw.choice(CALLEES)
    text = draw.words(draw.number(1, 8))
    strings = [f'{draw.indent}{draw.name()} = "{draw.words(1)}"\n', f"{draw.indent}{draw.name()} = '{draw.words(1)}'\n"]
    if draw.number(0, 1):
        strings.reverse()
    distractors = "".join(strings) if draw.number(0, 1) else ""
    return draw.pair(f'{distractors}{call}("{text}', f"{distractors}{call}('{text}", answers=('")\n', "')\n"))


task = Task("single_double_quote", "`print(\"total cost` closes with `\")`, `print('total cost` with `')`", generate)
