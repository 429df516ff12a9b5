"""What holds for the pairs of all twenty tasks; tasks with a promise of their own follow."""

import ast
import keyword
import re
from itertools import islice

import pytest

from sparse_circuits.data.corpus import SourceConfig, SourceKind
from sparse_circuits.data.idioms import idiom_documents
from sparse_circuits.data.sources import Stdlib
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.data.words import EXTENSIONS, INPUT_FILES, OUTPUT_FILES, SHARED_NAME, WORDS, Split
from sparse_circuits.tasks.encode import draw_pairs, raw_pairs
from sparse_circuits.tasks.registry import TASKS

ENDINGS = ("", ")", "}", "]", '"', '"]', '")', " x)", " x:", ":", "):", "()", " x):", "\n" + " " * 20 + "pass")
every_task = pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)


def pairs(task, split=Split.train, n_pairs=100):
    return list(islice(raw_pairs(task, split=split, seed=1), n_pairs))


def sides(pair):
    return (pair.positive, pair.positive_answer), (pair.negative, pair.negative_answer)


def is_python(text):
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def words_of(split):
    words = WORDS[split]
    return {*words.names, *words.functions, *words.strings}


@every_task
def test_the_sides_ask_different_questions(task):
    for pair in pairs(task):
        assert pair.positive != pair.negative
        assert pair.positive_answer != pair.negative_answer


@every_task
def test_each_answer_goes_on_to_valid_python(task):
    for pair in pairs(task):
        for prompt, answer in sides(pair):
            block = "\n" + " " * 20 + "pass"
            texts = [prompt + answer + ending + more for ending in ENDINGS for more in ("", block, block[1:])]
            assert any(map(is_python, texts)), prompt + "<<" + answer


@every_task
def test_no_split_speaks_with_the_words_of_another(task):
    for split in Split:
        seen = {word for pair in pairs(task, split) for word in re.findall("[a-z]+", " ".join(pair[:4]).lower())}
        shared = {*EXTENSIONS, *INPUT_FILES, *OUTPUT_FILES, "set", "input", "split", "open", "key", *keyword.kwlist}
        assert not seen & set().union(*(words_of(other) for other in Split if other is not split)) - shared


@every_task
def test_fillers_are_told_and_belong_to_one_split(task):
    told = {split: {filler for pair in pairs(task, split, 300) for filler in pair.fillers} for split in Split}
    assert all(len(fillers) >= 20 for fillers in told.values())
    assert not told[Split.train] & (told[Split.validation] | told[Split.held_out])
    for pair in pairs(task):
        assert all(filler in pair.positive or filler in pair.negative for filler in pair.fillers)


@every_task
def test_no_prompt_stands_in_the_idioms(task):
    corpus = "".join(idiom_documents(n_documents=100, seed=0))
    for pair in pairs(task):
        for prompt, _ in sides(pair):
            assert prompt.split("(")[0] + "(" not in corpus or pair.positive.startswith(("def load_", "def save_"))
            assert prompt not in corpus


@pytest.fixture(scope="module", params=["mixture", "standard library alone"])
def tokenizer(request) -> Tokenizer:
    library = list(Stdlib(SourceConfig(SourceKind.stdlib), seed=0).texts())
    n_documents = sum(map(len, library)) // 1250
    idioms = idiom_documents(n_documents=n_documents, seed=0) if request.param == "mixture" else ()
    return Tokenizer.train([*library, *idioms])


@every_task
def test_enough_draws_are_valid_and_fit_a_short_context(task, tokenizer):
    drawn = draw_pairs(task, tokenizer, split=Split.held_out, n_pairs=200, seed=0)
    assert len(drawn.pairs) == 200
    assert drawn.n_draws < 200 * 10
    assert len({filler for pair in drawn.pairs for filler in pair.fillers}) >= 20
    assert max(len(encoded.positive) for encoded in drawn.encoded) < 128


def test_a_string_starts_and_ends_with_a_letter_and_holds_no_other_quote():
    for pair in pairs(TASKS["single_double_quote"]):
        for prompt, quote in ((pair.positive, '"'), (pair.negative, "'")):
            assert re.search(rf"\({quote}[a-z]([a-z ]*[a-z])?$", prompt)


def test_the_variable_is_not_mentioned_between_its_start_and_its_use():
    for name in ("set_or_string", "set_or_string_fixedvarname"):
        for pair in pairs(TASKS[name]):
            variable = pair.positive.split()[-1]
            assert [word for word in re.findall(r"\w+", pair.positive) if word == variable] == [variable] * 2
            assert (variable == SHARED_NAME) == (name == "set_or_string_fixedvarname")


def test_the_next_attribute_is_not_always_the_next_argument():
    is_next = set()
    for pair in pairs(TASKS["class_init"]):
        bound = re.findall(r"self\.(\w+) =", pair.positive)
        arguments = re.search(r"self, (.*)\):", pair.positive)[1].split(", ")
        assert pair.positive_answer == f" {bound[-1]}\n"
        is_next.add(arguments[len(bound) - 1] == bound[-1])
    assert is_next == {True, False}


def test_depth_of_the_answer_follows_the_line_before():
    for pair in pairs(TASKS["indent_for"]):
        for prompt, answer in sides(pair):
            line = prompt.splitlines()[-1]
            indent = len(line) - len(line.lstrip())
            assert len(answer) - len(answer.lstrip()) == indent + (4 if line.endswith(":") else 0)
