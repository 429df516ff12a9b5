import keyword
from itertools import combinations

import pytest

from sparse_circuits.data.words import COMMON_WORDS, FILLER_FORMS, INPUT_FILES, OUTPUT_FILES, SHARED_NAME, WORDS, Split


def all_words(split):
    words = WORDS[split]
    return {*words.names, *words.functions, *words.strings}


def test_no_two_splits_share_a_word():
    for first, second in combinations(Split, 2):
        assert not all_words(first) & all_words(second)


def test_common_words_belong_to_no_split():
    assert len(set(COMMON_WORDS)) == len(COMMON_WORDS)
    assert not any(set(COMMON_WORDS) & all_words(split) for split in Split)


@pytest.mark.parametrize("split", Split)
def test_a_split_lists_each_word_once_and_in_plain_letters(split):
    for words in (WORDS[split].names, WORDS[split].functions, WORDS[split].strings):
        assert len(set(words)) == len(words)
        assert all(word.isascii() and word.isalpha() and word.islower() for word in words)


@pytest.mark.parametrize("split", Split)
def test_names_are_no_keywords_and_no_functions(split):
    names = WORDS[split].names
    assert not any(map(keyword.iskeyword, names))
    assert not set(names) & {*WORDS[split].functions, SHARED_NAME}


def test_no_file_is_both_read_and_written():
    assert not set(INPUT_FILES) & set(OUTPUT_FILES)


def test_the_nth_filler_form_has_n_extra_tokens():
    shortest = len(FILLER_FORMS[0].split())
    assert [len(form.split()) - shortest for form in FILLER_FORMS] == list(range(len(FILLER_FORMS)))
