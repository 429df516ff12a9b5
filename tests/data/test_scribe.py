import ast
import random

import pytest

from sparse_circuits.data.blocks import BLOCKS, indented
from sparse_circuits.data.phrases import PHRASES
from sparse_circuits.data.scribe import NAMES, Scribe


def test_names_that_are_read_were_bound_before():
    scribe = Scribe(random.Random(0))
    scribe.bind(["left"])
    assert scribe.old() == "left"
    new = scribe.new()
    assert {scribe.old() for _ in range(50)} == {"left", new}


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.__name__)
def test_a_phrase_is_one_valid_line(phrase):
    lines = {phrase(Scribe(random.Random(seed))) for seed in range(200)}
    assert len(lines) > 50
    for line in lines:
        assert "\n" not in line
        assert len(ast.parse(line).body) == 1


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_a_block_is_valid_and_no_deeper_than_asked(block):
    for seed in range(200):
        lines = block(Scribe(random.Random(seed)), 1)
        compile("\n".join(["def f():", *indented(lines)]), block.__name__, "exec")
        assert max(len(line) - len(line.lstrip()) for line in lines) <= 4 * 4


def test_all_names_get_used():
    scribe = Scribe(random.Random(0))
    assert {scribe.new() for _ in range(2000)} == set(NAMES)
