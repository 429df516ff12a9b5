"""The tokenizer loses nothing, cuts where the tasks expect it, and refuses broken files."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError

CODE = 'def load(path, mode=None):\n    with open(path, "r") as file:\n        print(f"{path} is open")\n'
TOKENIZER = Tokenizer.train([CODE], d_vocab=300)


def tokens(text: str) -> list[str]:
    """Return the tokens of `text` under a vocabulary that has merged every piece the split pattern allows."""
    tokenizer = Tokenizer.train([text] * 2, d_vocab=2048)
    return [tokenizer.token(token_id) for token_id in tokenizer.encode(text)]


@given(st.text())
def test_decoding_gives_the_text_back(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@given(st.lists(st.text(alphabet=st.sampled_from("<|endoftext|> \n"))))
def test_a_batch_is_encoded_as_its_texts_are(texts: list[str]) -> None:
    assert TOKENIZER.encode_batch(texts) == [TOKENIZER.encode(text) for text in texts]


def test_no_text_becomes_end_of_text() -> None:
    ids = TOKENIZER.encode("a <|endoftext|> b")
    assert TOKENIZER.end_of_text not in ids
    assert TOKENIZER.decode(ids) == "a <|endoftext|> b"


def test_end_of_text_is_the_last_id() -> None:
    assert TOKENIZER.end_of_text == TOKENIZER.d_vocab - 1
    assert TOKENIZER.token(TOKENIZER.end_of_text) == "<|endoftext|>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('    print("Total")\n', ["   ", " print", '("', "Total", '")\n']),
        ("    rows = [[1]]\n", ["   ", " rows", " =", " [[", "1", "]]\n"]),
        ("def f(a=None):\n\n    x", ["def", " f", "(a", "=None", "):\n\n", "   ", " x"]),
        ("x = 12345\n", ["x", " =", " ", "123", "45", "\n"]),
        ("result.add", ["result", ".add"]),
        ("f'sum'", ["f", "'sum", "'"]),
        ("a\n    \nb", ["a", "\n    \n", "b"]),
    ],
)
def test_text_is_cut_where_the_tasks_expect_it(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_bytes_that_are_no_text_are_shown_by_the_replacement_character() -> None:
    first, *_ = TOKENIZER.encode("é")
    assert TOKENIZER.token(first) == "�"


def test_vocabulary_has_the_size_asked_for_where_the_text_allows_it() -> None:
    assert Tokenizer.train([CODE] * 2, d_vocab=280).d_vocab == 280
    assert Tokenizer.train(["a"], d_vocab=2048).d_vocab == 257


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    TOKENIZER.save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.hash == TOKENIZER.hash
    assert loaded.encode(CODE + "<|endoftext|>") == TOKENIZER.encode(CODE + "<|endoftext|>")


def test_another_vocabulary_has_another_hash() -> None:
    assert Tokenizer.train([CODE], d_vocab=299).hash != TOKENIZER.hash


def test_training_is_deterministic() -> None:
    assert Tokenizer.train([CODE], d_vocab=300).to_json() == TOKENIZER.to_json()


def test_a_vocabulary_without_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(UserError, match="d_vocab is 256, but"):
        Tokenizer.train([CODE], d_vocab=256)


@pytest.mark.parametrize("content", ["", "{}", TOKENIZER.to_json()[:-20]])
def test_a_broken_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match=r"tokenizer\.json"):
        Tokenizer.load(tmp_path / "tokenizer.json")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json"):
        Tokenizer.load(tmp_path / "nowhere.json")


def test_a_tokenizer_without_end_of_text_is_refused() -> None:
    content = json.loads(TOKENIZER.to_json())
    content["added_tokens"] = []
    with pytest.raises(UserError, match=r"has no token that ends a text"):
        Tokenizer.from_json(json.dumps(content))
