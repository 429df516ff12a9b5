"""The tasks by name, in the order of table 1: a task is one file in this folder and one line here."""

from __future__ import annotations

from importlib import import_module

from sparse_circuits.errors import UserError, nearest
from sparse_circuits.tasks.task import Task

NAMES = (
    "single_double_quote",
    "final_kwarg",
    "set_or_string",
    "set_or_string_fixedvarname",
    "class_init",
    "with_as",
    "bracket_brace",
    "with_open",
    "bracket_counting",
    "for_while",
    "else_elif",
    "fstring_brace",
    "if_ternary",
    "var_swap",
    "indent_for",
    "lambda_func",
    "if_equals",
    "enumerate_range",
    "var_if",
    "while_return_true",
)

TASKS: dict[str, Task] = {name: import_module(f"sparse_circuits.tasks.{name}").TASK for name in NAMES}


def get_task(name: str) -> Task:
    """Return the task of this name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in TASKS:
        raise UserError(f'There is no task "{name}"{nearest(name, TASKS)}: choose from {", ".join(TASKS)}.')
    return TASKS[name]
