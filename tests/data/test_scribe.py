import random

from sparse_circuits.data.scribe import NAMES, Scribe


def test_names_that_are_read_were_bound_before():
    scribe = Scribe(random.Random(0))
    scribe.bind(["left"])
    assert scribe.old() == "left"
    new = scribe.new()
    assert {scribe.old() for _ in range(50)} == {"left", new}


def test_all_names_get_used():
    scribe = Scribe(random.Random(0))
    assert {scribe.new() for _ in range(20_000)} == set(NAMES)


def test_a_string_closes_as_it_opened():
    scribe = Scribe(random.Random(0))
    strings = [scribe.string(1, 3) for _ in range(100)]
    assert all(string[0] == string[-1] and 0 <= string.count(" ") < 3 for string in strings)
    assert {string[0] for string in strings} == {'"', "'"}
