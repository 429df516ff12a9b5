import random

import pytest

from sparse_circuits.data.blocks import BLOCKS, indented
from sparse_circuits.data.scribe import Scribe


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.__name__)
def test_a_block_is_valid_and_no_deeper_than_asked(block):
    for seed in range(200):
        lines = block(Scribe(random.Random(seed)), 1)
        compile("\n".join(["def f():", *indented(lines)]), block.__name__, "exec")
        assert max(len(line) - len(line.lstrip()) for line in lines) <= 4 * 4
