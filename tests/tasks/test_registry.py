from pathlib import Path

import pytest

import sparse_circuits.tasks
from sparse_circuits.errors import UserError
from sparse_circuits.tasks.registry import NAMES, TASKS, get_task

FOLDER = Path(sparse_circuits.tasks.__file__).parent


def test_all_twenty_tasks_of_the_paper_are_there_by_the_name_of_their_file():
    assert len(TASKS) == 20
    assert all(task.name == name for name, task in TASKS.items())


def test_every_generator_in_the_folder_is_registered():
    files = {path.stem for path in FOLDER.glob("*.py") if "\nTASK = Task(" in path.read_text(encoding="utf-8")}
    assert files == set(NAMES)


def test_an_unknown_task_is_answered_with_the_nearest_name():
    assert get_task("var_swap") is TASKS["var_swap"]
    with pytest.raises(UserError, match='did you mean "var_swap"'):
        get_task("var_swop")
