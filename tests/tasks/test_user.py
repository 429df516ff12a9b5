import inspect
import json
import sys
import textwrap

import pytest

from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.tasks import user
from sparse_circuits.tasks.encode import encode_pairs
from sparse_circuits.tasks.registry import TASKS
from sparse_circuits.tasks.user import find_task, import_task


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def documented_module():
    """The generator that the docstring shows."""
    lines = inspect.getdoc(user).splitlines()
    return textwrap.dedent("\n".join(line for line in lines if line.startswith("    ") or not line))


def test_a_name_is_looked_up_in_the_registry():
    assert find_task("single_double_quote") is TASKS["single_double_quote"]
    with pytest.raises(UserError, match='did you mean "single_double_quote"'):
        find_task("single_double_qoute")


def test_a_jsonl_file_is_read(folder):
    (folder / "mine.jsonl").write_text(json.dumps({"pos": "a", "neg": "b", "pos_answer": "c", "neg_answer": "d"}))
    assert find_task("mine.jsonl").name == "mine"


def test_a_task_of_the_users_takes_no_registered_name(folder):
    (folder / "with_open.jsonl").write_text(json.dumps({"pos": "a", "neg": "b", "pos_answer": "c", "neg_answer": "d"}))
    (folder / "same_name.py").write_text(documented_module().replace('"mine"', '"with_open"'))
    for reference in ("with_open.jsonl", "same_name:TASK"):
        with pytest.raises(UserError, match=f'"{reference}" goes by the name with_open, .*: rename it'):
            find_task(reference)
    assert find_task("sparse_circuits.tasks.with_open:TASK") is TASKS["with_open"]


def test_the_documented_generator_works_from_the_working_directory(folder, code_tokenizer):
    (folder / "documented_task.py").write_text(documented_module())
    path = list(sys.path)
    task = find_task("documented_task:TASK")
    assert task.name == "mine"
    assert encode_pairs(task, code_tokenizer, split=Split.train, n_pairs=10, seed=0).n_pairs == 10
    assert sys.path == path


def test_a_file_in_the_working_directory_hides_no_installed_module(folder):
    (folder / "colorsys.py").write_text("raise SystemError('imported')")
    with pytest.raises(UserError, match='"colorsys:TASK" is no task'):
        import_task("colorsys:TASK")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("no_such_module:TASK", "Could not import .*ModuleNotFoundError"),
        ("broken_task:TASK", "Could not import .*ZeroDivisionError"),
        ("plain_task:TASK", "is no task: define TASK = Task"),
        ("plain_task:NUMBER", "is no task: define NUMBER = Task"),
        ("plain_task:", "is no task: define TASK = Task"),
        (":TASK", "Could not import"),
        ("../plain_task:TASK", "Could not import"),
    ],
)
def test_a_reference_that_leads_nowhere_says_so(reference, message, folder):
    (folder / "broken_task.py").write_text("1 / 0")
    (folder / "plain_task.py").write_text("NUMBER = 1")
    path = list(sys.path)
    with pytest.raises(UserError, match=message):
        find_task(reference)
    assert sys.path == path
