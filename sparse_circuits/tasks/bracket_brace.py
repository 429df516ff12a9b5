"""Task 7: a key in braces is followed by a colon, an element in brackets by a comma."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    return draw.choice((_numbers, _strings))(draw)


def _numbers(draw: Draw) -> Pair:
    start, numbers = f"{draw.indent}{draw.name()} = ", draw.numbers(2 * draw.number(1, 4) + 1)
    items = "".join(f"{key}: {number}, " for key, number in zip(numbers[:-1:2], numbers[1::2], strict=True))
    elements = ", ".join(map(str, numbers))
    return draw.pair(f"{start}{{{items}{numbers[-1]}", f"{start}[{elements}", answers=(": 1", ", 1"))


def _strings(draw: Draw) -> Pair:
    """One item of a dictionary is as long as two elements of a list."""
    start, n_items = f"{draw.indent}{draw.name()} = ", draw.number(1, 3)
    *words, last = draw.distinct_words(2 * n_items + 1)
    items = "".join(f'"{word}": {draw.number(1, 9)}, ' for word in words[:n_items])
    elements = "".join(f'"{word}", ' for word in words)
    return draw.pair(
        f'{start}{{{items}"{last}',
        f'{start}[{elements}"{last}',
        answers=('": 1', '", "'),
        longer_by=(0, 0, -1, -2),
    )


TASK = Task("bracket_brace", "`{1: 2, 3` goes on with `:`, `[1, 2, 3` with `,`", generate)
