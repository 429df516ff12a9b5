import random
from keyword import iskeyword

from sparse_circuits.data.scribe import NAMES, Scribe
from sparse_circuits.data.words import COMMON_WORDS, WORDS


def test_names_that_are_read_were_bound_before():
    scribe = Scribe(random.Random(0))
    scribe.bind(["left"])
    assert scribe.old() == "left"
    new = scribe.new()
    assert {scribe.old() for _ in range(50)} == {"left", new}


def test_all_names_get_used_and_the_invented_ones_are_no_words():
    scribe = Scribe(random.Random(0))
    seen = {scribe.new() for _ in range(20_000)}
    assert seen >= {*NAMES, *COMMON_WORDS}
    invented = seen - {*NAMES, *COMMON_WORDS}
    assert len(invented) > 2_000
    assert all(name.isidentifier() and not iskeyword(name) for name in invented)
    for words in WORDS.values():
        assert invented.isdisjoint({*words.names, *words.functions, *words.strings})


def test_several_names_are_different():
    scribe = Scribe(random.Random(0))
    assert all(len(set(scribe.names(8))) == 8 for _ in range(200))


def test_a_string_closes_as_it_opened():
    scribe = Scribe(random.Random(0))
    strings = [scribe.string(1, 3) for _ in range(100)]
    assert all(string[0] == string[-1] and 0 <= string.count(" ") < 3 for string in strings)
    assert {string[0] for string in strings} == {'"', "'"}
