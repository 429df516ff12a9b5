"""Task 1: a string closes with the quote that opened it."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task

CALLS = ("print", "print", "{} = input", "{} = open", "{} = {}.split", "raise ValueError", "raise KeyError")


def generate(draw: Draw) -> Pair:
    call = draw.indent + draw.choice(CALLS).format(*draw.names(2))
    strings = draw.shuffled((f'"{draw.words(1)}"', f"'{draw.words(1)}'"))
    distractors = "".join(f"{draw.indent}{draw.name()} = {string}\n" for string in strings)
    before, text = draw.choice(("", distractors)), draw.words(draw.number(1, 8))
    return draw.pair(f'{before}{call}("{text}', f"{before}{call}('{text}", answers=('")\n', "')\n"))


TASK = Task("single_double_quote", "`print(\"total cost` closes with `\")`, `print('total cost` with `')`", generate)
