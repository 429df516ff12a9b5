"""Texts of local files, and one sentence for each that cannot be read."""

import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from sparse_circuits.data import extras
from sparse_circuits.data.files import matching_files, read_rows, read_texts
from sparse_circuits.errors import UserError


def texts(path: Path, text_field: str = "text") -> list[str]:
    return list(read_texts(path, text_field=text_field))


def write_parquet(path: Path, columns: dict[str, list[str]]) -> None:
    parquet.write_table(pyarrow.table(columns), path)


def test_a_file_is_one_text_with_plain_line_ends(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert texts(tmp_path / "a.txt") == ["one\ntwo\nthree\n"]


def test_a_jsonl_row_is_one_text(tmp_path: Path) -> None:
    rows = [{"code": "a = 1\n", "id": 0}, {"code": "é", "id": 1}]
    (tmp_path / "a.jsonl").write_text("\n\n".join(map(json.dumps, rows)) + "\n")
    assert texts(tmp_path / "a.jsonl", "code") == ["a = 1\n", "é"]


def test_a_parquet_row_is_one_text(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"text": ["a = 1\n", "b"], "id": ["0", "1"]})
    assert texts(tmp_path / "a.parquet") == ["a = 1\n", "b"]


def test_globs_find_each_file_once_and_go_through_folders(tmp_path: Path) -> None:
    (tmp_path / "sub.py").mkdir()
    for name in ("b.py", "a.py", "sub.py/c.py", "d.txt"):
        (tmp_path / name).write_text("x")
    found = matching_files([f"{tmp_path}/**/*.py", f"{tmp_path}/a.*"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == ["a.py", "b.py", "sub.py/c.py"]


def test_a_glob_without_match_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"No file matches the glob .*\*\.py"):
        matching_files([f"{tmp_path}/*.py"])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    with pytest.raises(UserError, match=r"a\.png is none of"):
        matching_files([f"{tmp_path}/*"])


@pytest.mark.parametrize(("content", "sentence"), [(b"\xff\xfe\x00", "not UTF-8 text"), (b"abc\x00def", "is a binary file")])
@pytest.mark.parametrize("name", ["a.py", "a.txt", "a.jsonl"])
def test_a_binary_file_is_refused(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        texts(tmp_path / name)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"txet": "a"}', r'line 2, has no field "text" \(did you mean "txet"\?\)'),
        ('{"text": 5}', 'field "text" of .* line 2, is no text'),
        ("[1]", "line 2, is no JSON object"),
        ('{"text": ', "line 2, is not valid JSON"),
    ],
)
def test_a_row_without_text_is_refused(tmp_path: Path, line: str, sentence: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "fine"}\n' + line)
    with pytest.raises(UserError, match=sentence):
        texts(tmp_path / "a.jsonl")


def test_a_parquet_file_without_the_column_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", {"content": ["a"]})
    with pytest.raises(UserError, match="set text_field to one of content"):
        texts(tmp_path / "a.parquet")


def test_a_line_of_json_ends_where_the_file_ends_it(tmp_path: Path) -> None:
    inside = "one\u2028two\x85three"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": inside}, ensure_ascii=False) + "\r\n\n{}\n", encoding="utf-8")
    assert list(read_rows(tmp_path / "a.jsonl")) == [
        (f"{tmp_path / 'a.jsonl'}, line 1,", {"text": inside}),
        (f"{tmp_path / 'a.jsonl'}, line 3,", {}),
    ]


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(UserError, match="is not a Parquet file"):
        texts(tmp_path / "a.parquet")


def test_a_file_that_vanished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"Could not read .*a\.py"):
        texts(tmp_path / "a.py")


def test_a_missing_dependency_names_its_extra() -> None:
    with pytest.raises(UserError, match=r'pip install "sparse-circuits\[parquet\]"'):
        extras.require("pyarrow_that_nobody_has", extra="parquet")
