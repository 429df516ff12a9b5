import random
from itertools import combinations

import pytest

from sparse_circuits.data.words import WORDS, Split
from sparse_circuits.tasks.draw import INDENTS, MAX_FILLERS, Draw


def draws(n_draws, split=Split.train):
    return [Draw(random.Random(seed), split) for seed in range(n_draws)]


def test_names_are_new_to_the_pair_and_no_filler_mentions_them():
    for draw in draws(100):
        names = draw.names(9)
        fillers = [draw.filler() for _ in range(20)]
        assert len(set(names)) == 9
        assert not any(set(names) & set(filler.split()) for filler in fillers)


@pytest.mark.parametrize("n_tokens", [-5, -2, -1, 1, 2, 5])
def test_the_last_filler_makes_up_for_the_length_of_the_target(n_tokens):
    for draw in draws(50):
        pair = draw.pair("x", "x", answers=("a", "b"), longer_by=(n_tokens,))
        lengths = [len(prompt.split()) for prompt in pair[:2]]
        assert lengths[1] - lengths[0] == n_tokens
        assert pair.positive.splitlines()[:-2] == pair.negative.splitlines()[:-2]


def test_equal_targets_stand_in_equal_surroundings():
    for draw in draws(50):
        pair = draw.pair(f"{draw.indent}one", f"{draw.indent}two", answers=("a", "b"))
        assert pair.positive.replace("one", "two") == pair.negative
        assert pair[2:4] == ("a", "b")
        assert all(filler in pair.positive for filler in pair.fillers)
        assert len(pair.fillers) <= MAX_FILLERS


def test_surroundings_vary_in_depth_and_number_of_fillers():
    pairs = [draw.pair(f"{draw.indent}one", f"{draw.indent}two", answers=("a", "b")) for draw in draws(200)]
    assert {len(pair.fillers) for pair in pairs} == set(range(MAX_FILLERS + 1))
    last = [pair.positive.splitlines()[-1] for pair in pairs]
    assert {line.removesuffix("one") for line in last} == set(INDENTS)


def test_enclosing_functions_may_differ():
    pair = draws(1)[0].pair("", "", answers=("a", "b"), functions=("load_data", "save_data"))
    assert pair.positive.replace("load_data", "save_data") == pair.negative


def test_words_come_from_the_split():
    for split in Split:
        for draw in draws(50, split):
            assert set(draw.words(5).split()) <= set(WORDS[split].strings)
            assert draw.name() in WORDS[split].names
            assert draw.function() in WORDS[split].functions


def test_splits_share_no_filler():
    fillers = {split: {draw.filler() for draw in draws(300, split)} for split in Split}
    for first, second in combinations(Split, 2):
        assert not fillers[first] & fillers[second]
    assert all(len(found) > 200 for found in fillers.values())
