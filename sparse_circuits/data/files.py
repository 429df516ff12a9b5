"""Local files to texts: one text a file for .py and .txt, one text a row for .jsonl and .parquet."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sparse_circuits.data.extras import require
from sparse_circuits.errors import UserError, nearest

SUFFIXES = (".py", ".txt", ".jsonl", ".parquet")


def matching_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files that any of the globs names (`**` goes through folders), each once, sorted.

    Raises:
        UserError: a glob that matches no file, or a file of a kind we cannot read.
    """
    found: set[Path] = set()
    for pattern in patterns:
        matches = {Path(match) for match in glob.glob(str(Path(pattern).expanduser()), recursive=True)}
        matches = {path for path in matches if path.is_file()}
        if not matches:
            raise UserError(f'No file matches the glob "{pattern}" in {Path.cwd()}: check the path.')
        found |= matches
    for path in found:
        if path.suffix not in SUFFIXES:
            raise UserError(f"{path} is none of {', '.join(SUFFIXES)}: narrow the glob or convert the file.")
    return sorted(found)


def read_texts(path: Path, *, text_field: str) -> Iterator[str]:
    """Yield the texts of one file.

    Args:
        text_field: key or column that holds the text in .jsonl and .parquet.

    Raises:
        UserError: the file cannot be read, is binary, or lacks the field.
    """
    try:
        match path.suffix:
            case ".py" | ".txt":
                yield _decode(path.read_bytes(), path)
            case ".jsonl":
                yield from (text_of(row, text_field, where=where) for where, row in read_rows(path))
            case ".parquet":
                yield from _parquet_texts(path, text_field=text_field)
            case _:
                raise UserError(f"{path} is none of {', '.join(SUFFIXES)}: convert the file.")
    except OSError as error:
        raise _unreadable(path, error) from error


def text_of(row: Mapping[str, Any], text_field: str, *, where: str) -> str:
    """Return the text of one row of a table.

    Raises:
        UserError: the row has no such field, or something else than text in it.
    """
    if text_field not in row:
        raise UserError(_missing_field(text_field, row, where=where))
    if not isinstance(row[text_field], str):
        raise UserError(f'The field "{text_field}" of {where} is no text: set text_field to a field of strings.')
    return row[text_field]


def _missing_field(text_field: str, fields: Iterable[str], *, where: str) -> str:
    fields = list(fields)
    hint = nearest(text_field, fields)
    return f'{where} has no field "{text_field}"{hint}: set text_field to one of {", ".join(fields)}.'


def _decode(raw: bytes, path: Path) -> str:
    """Return UTF-8 bytes as text with `\\n` line ends and without a byte order mark."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason}): convert it, or leave it out.") from error
    if "\0" in text:
        raise UserError(f"{path} is a binary file: give text, or leave it out.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a .jsonl, each behind the words that name its line.

    A line ends where the file ends it, and not at every separator that a text may hold, as with `str.splitlines`.

    Raises:
        UserError: the file cannot be read, is no UTF-8 text, or a line is no JSON object.
    """
    try:
        with open(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"{path}, line {number},"
                    yield where, _object(_decode(line, path), where=where)
    except OSError as error:
        raise _unreadable(path, error) from error


def _object(line: str, *, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where} is not valid JSON ({error.msg}): correct or delete the line.") from error
    if not isinstance(row, dict):
        raise UserError(f'{where} is no JSON object: write {{"name": value, ...}} on each line.')
    return row


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(f"Could not read {path} ({error.strerror or error}): check the file.")


def _parquet_texts(path: Path, *, text_field: str) -> Iterator[str]:
    arrow = require("pyarrow", extra="parquet")
    parquet = require("pyarrow.parquet", extra="parquet")
    try:
        file = parquet.ParquetFile(path)
    except arrow.ArrowInvalid as error:
        raise UserError(f"{path} is not a Parquet file ({error}): leave it out of the glob.") from error
    with file:
        if text_field not in file.schema_arrow.names:
            raise UserError(_missing_field(text_field, file.schema_arrow.names, where=str(path)))
        for rows in file.iter_batches(columns=[text_field]):
            for row in rows.to_pylist():
                yield text_of(row, text_field, where=str(path))
