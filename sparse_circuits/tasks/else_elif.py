"""Task 11: `else` is followed by a colon, `elif` by anything else."""

from __future__ import annotations

from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Scoring, Task


def generate(draw: Draw) -> Pair:
    condition, other, answer = draw.names(3)
    before = f"{draw.indent}if {condition}:\n{_body(draw)}"
    if draw.number(0, 1):
        before += f"{draw.indent}elif {other}:\n{_body(draw)}"
    answers = ":\n", f" {answer}:\n"
    return draw.pair(f"{before}{draw.indent}else", f"{before}{draw.indent}elif", answers=answers)


def _body(draw: Draw) -> str:
    end = f"{draw.indent}    return {draw.name()}\n"
    return draw.fillers(1, 2, deeper="    ") + draw.choice(("", end))


TASK = Task("else_elif", "`else` goes on with `:`, `elif` with anything but `:`", generate, Scoring.complement)
