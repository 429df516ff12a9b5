import random

import pytest

from sparse_circuits.data.recipes import RECIPES, recipe
from sparse_circuits.data.scribe import Scribe


@pytest.mark.parametrize("text", RECIPES, ids=lambda text: text.split("(")[0])
def test_a_recipe_is_valid(text):
    for seed in range(20):
        scribe = Scribe(random.Random(seed))
        scribe.choice = lambda options, choice=scribe.choice: text if options is RECIPES else choice(options)
        compile("\n".join(recipe(scribe)), "recipe", "exec")
