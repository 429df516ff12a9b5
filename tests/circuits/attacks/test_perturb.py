"""Edits: Python reads the same program in both prompts of a pair, but for what the edit says."""

import ast
import random
import re
from collections.abc import Iterator
from itertools import islice

import pytest

from sparse_circuits.circuits.attacks.perturb import (
    Edit,
    Family,
    draw_edit,
    line_places,
    neutral_names,
    open_list,
    statement_places,
    with_comment,
)
from sparse_circuits.tasks import TASKS, Pair, Split, Task
from sparse_circuits.tasks.encode import raw_pairs

WORDS = ["[", "]]", "'", '"', "\\", "{", "#", "while", "Z"]
ENDINGS = ("", f"{'':12}pass\n", "pass", "): pass", " y: pass", ": pass", "}", "]", '"]', '"}', '")', " 0)", " x:\n")
"""What makes a whole program of a prompt and its answer."""


def edits(task: Task, family: Family, n_pairs: int = 4) -> Iterator[tuple[Pair, Edit]]:
    """Draw edits of several sizes."""
    rng = random.Random(task.name)
    for pair in islice(raw_pairs(task, split=Split.held_out, seed=0), n_pairs):
        for size in (1, 2, 5, 12):
            edit = draw_edit(pair, family, size=size, words=WORDS, split=Split.held_out, rng=rng)
            if edit:
                yield pair, edit


def programs(pair: Pair, edited: Pair) -> Iterator[tuple[ast.Module, ast.Module]]:
    """Parse both prompts, each with its answer and what completes it, before and after an edit."""
    answers = (pair.positive_answer, pair.negative_answer)
    for before, after, answer in zip(pair[:2], edited[:2], answers, strict=True):
        ending = next(each for each in ENDINGS if parses(before + answer + each))
        yield ast.parse(before + answer + ending), ast.parse(after + answer + ending)


def parses(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


def without_new_names(before: ast.Module, after: ast.Module) -> str:
    """Dump a program without its assignments to names that it did not have before."""
    known = set(re.findall(r"\w+", ast.unparse(before)))

    def is_new(statement: ast.stmt) -> bool:
        is_assignment = isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        return is_assignment and statement.targets[0].id not in known

    for node in ast.walk(after):
        for block in ("body", "orelse"):
            if isinstance(getattr(node, block, None), list):
                setattr(node, block, [each for each in getattr(node, block) if not is_new(each)])
    return ast.dump(after)


def renamed_by(names: dict[str, str], text: str) -> str:
    return re.sub(r"\w+", lambda match: names.get(match[0], match[0]), text)


@pytest.mark.parametrize("family", Family)
@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_the_answers_and_the_last_lines_stay(task: Task, family: Family) -> None:
    for pair, edit in edits(task, family):
        assert edit.pair[2:] == pair[2:] and edit.pair != pair and edit.family is family
        for before, after in zip(pair[:2], edit.pair[:2], strict=True):
            last, now_last = before.rsplit("\n", 1)[-1], after.rsplit("\n", 1)[-1]
            if not open_list(pair):
                assert now_last == last


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_a_distractor_is_no_part_of_the_program(task: Task) -> None:
    drawn = list(edits(task, Family.distractor))
    assert any(edit.change.startswith("#") for _, edit in drawn)
    for pair, edit in drawn:
        for before, after in programs(pair, edit.pair):
            assert without_new_names(before, after) == ast.dump(before)


@pytest.mark.parametrize(
    "task", [task for task in TASKS.values() if task.name != "bracket_counting"], ids=lambda task: task.name
)
def test_dilution_adds_only_what_nothing_reads(task: Task) -> None:
    drawn = list(edits(task, Family.dilute))
    assert drawn
    for pair, edit in drawn:
        assert edit.pair.positive.count("\n") == pair.positive.count("\n") + edit.size
        for before, after in programs(pair, edit.pair):
            assert without_new_names(before, after) == ast.dump(before)


def test_dilution_lengthens_an_open_list_at_its_head() -> None:
    pair = Pair("x = [[1, 2", "y = 0\nx = [1, 2", "]]\n", "]\n", ())
    drawn = [
        draw_edit(pair, Family.dilute, size=3, words=[], split=Split.held_out, rng=random.Random(seed)) for seed in range(20)
    ]
    longer = [edit for edit in drawn if edit and not edit.pair.positive.count("\n")]
    assert longer and len(longer) < len(drawn)
    for edit in longer:
        assert re.fullmatch(r"x = \[\[(\d+), (\d+), (\d+), 1, 2", edit.pair.positive)
        assert edit.pair.negative == f"y = 0\nx = [{edit.change}, 1, 2"


@pytest.mark.parametrize(
    ("positive", "negative", "length"),
    [
        ("[[1, 2", "[1, 2", 4),
        ("[1, 23", "[1, 2", 0),  # not the same list
        ("{1: 2, 3", "[1, 2, 3", 0),
        ("x[1", "[1", 0),  # an index
        ("f()[1", "[1", 0),
        ("['a', 1", "['a', 1", 0),
    ],
)
def test_an_open_list_is_one_that_both_prompts_end_in(positive: str, negative: str, length: int) -> None:
    assert open_list(Pair(positive, negative, "a", "b", ())) == length


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_replacing_is_the_same_renaming_everywhere(task: Task) -> None:
    drawn = list(edits(task, Family.replace))
    assert drawn
    for pair, edit in drawn:
        renamed = dict(each.split(" -> ") for each in edit.change.split(", "))
        back = {new: old for old, new in renamed.items()}
        assert len(renamed) == len(back) == edit.size
        for before, after, answer in zip(pair[:2], edit.pair[:2], pair[2:4], strict=True):
            assert not set(back) & set(re.findall(r"\w+", before + answer))
            assert renamed_by(back, after) == before


def test_places_are_between_statements_where_the_prompts_are_alike() -> None:
    code = 'def f():\n    x = [\n        1]\n    """\n    text\n    """\n    y = 1\n'
    pair = Pair(f"{code}    if x", f"{code}    while x", ":", ":", ())
    starts = [0, *(code.index(line) for line in ("    x = [", '    """', "    y"))]
    assert line_places(pair) == [*starts, len(code)]
    assert line_places(Pair(f"a\n{code}if x", f"b\n{code}if x", ":", ":", ())) == [0]


@pytest.mark.parametrize(
    ("above", "positive", "negative", "fits"),
    [
        ("if a:\n    b\n", "c = ", "d = ", True),
        ("if a:\n    b\n", "else", "elif", False),  # would part it from its if
        ("if a:\n    b\n", "c", "else", False),
        ("if a:\n", "    c", "    d", True),
        ("if a:\n    b\n", "    c", "d", False),  # two depths
        ("@a\n", "def f", "class A", False),
    ],
)
def test_a_statement_comes_only_before_another_one(above: str, positive: str, negative: str, fits: bool) -> None:
    pair = Pair(above + positive, above + negative, "x", "y", ())
    assert (len(above) in statement_places(pair)) is fits
    assert len(above) in line_places(pair)


def test_a_comment_comes_as_low_as_it_can_and_as_deep_as_the_line_below() -> None:
    pair = Pair("def f():\n    a = 1\n    b(", "def f():\n    a = 1\n    c(", "x", "y", ())
    edit = with_comment(pair, ["[", "]"])
    assert edit.pair.positive == "def f():\n    a = 1\n    # [ ]\n    b("
    assert edit.pair.negative == "def f():\n    a = 1\n    # [ ]\n    c("
    assert edit.change == "# [ ]" and edit.size == 2


def test_what_has_no_place_is_not_edited() -> None:
    rng = random.Random(0)
    bare = Pair('("a b', "('a b", '")', "')", ())
    assert neutral_names(bare, Split.held_out) == []
    assert draw_edit(bare, Family.replace, size=1, words=[], split=Split.held_out, rng=rng) is None
    crowded = Pair("name = args\nx", "name = args\ny", "a", "b", ())
    assert draw_edit(crowded, Family.replace, size=3, words=[], split=Split.held_out, rng=rng) is None
    else_first = Pair("else", "elif", "a", "b", ())
    assert draw_edit(else_first, Family.dilute, size=1, words=[], split=Split.held_out, rng=rng) is None
