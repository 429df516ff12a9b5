import ast
import random

import pytest

from sparse_circuits.data.phrases import PHRASES
from sparse_circuits.data.scribe import Scribe


@pytest.mark.parametrize("phrase", PHRASES, ids=lambda phrase: phrase.__name__)
def test_a_phrase_is_one_valid_line(phrase):
    lines = {phrase(Scribe(random.Random(seed))) for seed in range(200)}
    assert len(lines) > 50
    for line in lines:
        assert "\n" not in line
        assert len(ast.parse(line).body) == 1
