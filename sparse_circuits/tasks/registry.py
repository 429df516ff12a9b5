"""The tasks by name, in the order of table 1: a task is one file in this folder and one line here."""

from __future__ import annotations

from importlib import import_module

from sparse_circuits.errors import UserError, nearest
from sparse_circuits.tasks.task import Task

NAMES = (
    "single_double_quote",
    "for_while",
)

TASKS: dict[str, Task] = {name: import_module(f"sparse_circuits.tasks.{name}").task for name in NAMES}


def get_task(name: str) -> Task:
    """Return the task of this name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in TASKS:
        raise UserError(f'There is no task "{name}"{nearest(name, TASKS)}: choose from {", ".join(TASKS)}.')
    return TASKS[name]
