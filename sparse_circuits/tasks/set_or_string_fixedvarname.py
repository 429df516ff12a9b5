"""Task 4: set_or_string with one variable name throughout, so that no name has to be copied."""

from __future__ import annotations

from sparse_circuits.data.words import SHARED_NAME
from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.set_or_string import pair_for
from sparse_circuits.tasks.task import Pair, Task


def generate(draw: Draw) -> Pair:
    return pair_for(draw, SHARED_NAME)


TASK = Task("set_or_string_fixedvarname", "set_or_string, where the variable is always `current`", generate)
