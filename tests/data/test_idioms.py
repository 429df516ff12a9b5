import ast
import re
from itertools import islice

import pytest

from sparse_circuits.data.idioms import idiom_documents
from sparse_circuits.data.words import WORDS, Split

N_DOCUMENTS = 300

# What each task asks about, and that both of its sides stand in at least so many of the documents, in per cent.
IDIOMS = {
    "single_double_quote": (r'print\("[a-z ]+"\)\n', r"print\('[a-z ]+'\)\n", 15),
    "final_kwarg": (r"def \w+\((\w+=None, )+\w+=None\):\n", r"def \w+\((\w+, )+\w+\):\n", 30),
    "set_or_string": (r" (\w+) = set\(\)\n[^#]+? for .*\n[^#]*? \1\.add\(", r' (\w+) = ""\n[^#]+? for .*\n[^#]*? \1 \+= ', 30),
    "set_or_string_fixedvarname": (r"current = set\(\)\n", r'current = ""\n', 8),
    "class_init": (r"self\.(\w+) = \1\n", r"self\.(\w+) = \1\n", 40),
    "with_as": (r'with open\("\w+\.\w+", "[rw]"\) as \w+:\n', r'\w+ = open\("\w+\.\w+", "[rw]"\)\n', 10),
    "bracket_brace": (r" = \{\d+: \d+, ", r" = \[\d+, \d+, ", 12),
    "bracket_brace strings": (r' = \{"\w+": \d+, ', r' = \["\w+", "\w+', 5),
    "with_open": (r'open\("(input|data)\.\w+", "r"', r'open\("(output|result)\.\w+", "w"', 5),
    "bracket_counting": (r" = \[\[\d+(, \d+)*\]\]\n", r" = \[\d+(, \d+)*\]\n", 15),
    "for_while": (r" for \w+ in ", r" while \w+:\n", 30),
    "else_elif": (r" else:\n", r" elif \w+", 30),
    "fstring_brace": (r'print\(f"[a-z ]+ \{', r'print\("[a-z ]+"\)\n', 15),
    "if_ternary": (r" = \w+\.\w+\(\) if \w+ else ", r" if \w+:\n", 8),
    "var_swap": (r" (\w+), (\w+) = \2, \1\n", r" (\w+), (\w+) = \2, \1\n", 20),
    "indent_for": (r"\n( +)for \w+ in \w+:\n\1    \w", r"\n( +)\w+ = not \w+\n\1\w", 40),
    "lambda_func": (r"key=lambda \w+:", r"\n +def \w+\(", 25),
    "if_equals": (r" if \w+ == ", r"\n +\w+ = ", 30),
    "enumerate_range": (r" for [ijk], \w+ in enumerate\(", r" for [ijk] in range\(", 15),
    "var_if": (r" if \w+ == (True|False|None|\d+):\n", r" \w+ = (True|False|None|\d+)\n", 15),
    "while_return_true": (r" while True:\n", r" return True\n", 25),
}


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return list(idiom_documents(n_documents=N_DOCUMENTS, seed=7))


def test_every_document_is_valid_python(documents):
    for document in documents:
        compile(document, "idiom", "exec")


def test_the_seed_decides_and_a_longer_run_begins_with_a_shorter_one(documents):
    again = list(islice(idiom_documents(n_documents=10**9, seed=7), 20))
    assert again == documents[:20]
    assert not set(idiom_documents(n_documents=20, seed=8)) & set(documents)


def test_documents_are_small_modules_of_different_kinds(documents):
    assert len(set(documents)) == N_DOCUMENTS
    lengths = sorted(document.count("\n") for document in documents)
    assert lengths[0] >= 15
    assert lengths[len(lengths) // 2] < 60
    assert lengths[-1] < 150
    parts = [{type(part) for part in ast.parse(document).body} for document in documents]
    for kind in (ast.FunctionDef, ast.ClassDef, ast.Import):
        assert sum(kind in kinds for kinds in parts) > N_DOCUMENTS / 5


@pytest.mark.parametrize("name", IDIOMS)
def test_both_sides_of_every_task_occur_often(name, documents):
    positive, negative, percent = IDIOMS[name]
    for pattern in (positive, negative):
        n_found = sum(re.search(pattern, document) is not None for document in documents)
        assert n_found >= percent / 100 * N_DOCUMENTS, (pattern, n_found)


@pytest.mark.parametrize("split", [Split.validation, Split.held_out])
def test_no_word_of_a_later_split_occurs(split, documents):
    seen = {word for document in documents for word in re.findall("[a-z]+", document.lower())}
    assert not seen & {*WORDS[split].names, *WORDS[split].functions, *WORDS[split].strings}


@pytest.mark.parametrize("split", Split)
def test_no_function_is_called_like_those_that_open_prompts(split, documents):
    defined = {name for document in documents for name in re.findall(r"def (\w+)", document)}
    assert not defined & set(WORDS[split].functions)


def test_a_collection_is_filled_as_it_began(documents):
    """Between its start and its use, nothing else may rebind or mention an accumulator."""
    for document in documents:
        for lines in re.findall(r' (\w+) = (set\(\)|"")\n((?:.*\n)*?) *\1( \+=|\.add)', document):
            name, start, _, use = lines
            between = lines[2]
            if not re.search(rf"\b{name}\b", between):
                assert (use == ".add") == (start == "set()")
