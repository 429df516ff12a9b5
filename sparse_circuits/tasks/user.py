"""Any task by one reference: a name of the registry, a JSONL file of pairs, or a Task in a user's own module.

A generator is ten lines in a file of the user's, say my_task.py:

    from sparse_circuits.tasks import Draw, Pair, Task

    def generate(draw: Draw) -> Pair:
        name = draw.name()
        return draw.pair(f"{draw.indent}for {name}", f"{draw.indent}while {name}", answers=(" in", ":\\n"))

    TASK = Task("mine", "`for node` goes on with ` in`, `while node` with `:`", generate)

and its reference is `my_task:TASK`. Code is only imported where a reference asks for it.
"""

import os
import sys
from importlib import import_module
from pathlib import Path

from sparse_circuits.errors import UserError
from sparse_circuits.tasks.listed import load_pairs
from sparse_circuits.tasks.registry import TASKS, get_task
from sparse_circuits.tasks.task import Task


def find_task(reference: str) -> Task:
    """Return the task that `name`, `pairs.jsonl` or `package.module:TASK` refers to.

    Raises:
        UserError: there is no such task, the file or module does not hold one, or it goes by the name of a registered one.
    """
    if reference.endswith(".jsonl"):
        task = load_pairs(Path(reference))
    elif ":" in reference:
        task = import_task(reference)
    else:
        return get_task(reference)
    if task is not TASKS.get(task.name, task):  # by its name alone a circuit's file would take it for that one
        raise UserError(f'The task "{reference}" goes by the name {task.name}, as one of the twenty does: rename it.')
    return task


def import_task(reference: str) -> Task:
    """Import `package.module:TASK`; the working directory is searched last, so that it can hide no installed module.

    Raises:
        UserError: the module cannot be imported, or what is named there is no Task.
    """
    module_name, _, attribute = reference.partition(":")
    sys.path.append(os.getcwd())
    try:
        module = import_module(module_name)
    except Exception as error:  # the user's module may fail in any way
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f'Could not import "{module_name}" for the task "{reference}" ({reason}): repair it, or run from its folder.'
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    task = getattr(module, attribute, None)
    if not isinstance(task, Task):
        raise UserError(f'"{reference}" is no task: define {attribute or "TASK"} = Task(...) in {module_name}.')
    return task
