"""Each kind of source gives its documents, the same ones every time."""

import json
import os
from itertools import islice
from pathlib import Path

import datasets
import pytest

from sparse_circuits.data import SourceConfig, SourceKind
from sparse_circuits.data.sources import SOURCES, Source, open_source
from sparse_circuits.errors import UserError


def first_texts(source: Source, n: int) -> list[str]:
    return [document.text for document in islice(source.documents(), n)]


def test_every_kind_has_a_source() -> None:
    assert set(SOURCES) == set(SourceKind)


def test_stdlib_is_the_running_interpreter_without_tests() -> None:
    source = open_source(SourceConfig(SourceKind.stdlib), seed=0)
    texts = {document.text for document in source.documents()}
    assert Path(json.__file__).read_text() in texts
    assert Path(os.__file__).read_text() in texts
    assert Path(pytest.__file__).read_text() not in texts
    assert sum("import unittest" in text and "TestCase):" in text for text in texts) < 5
    assert "standard library" in source.origin()


def test_the_seed_sets_the_order_of_files() -> None:
    def texts(seed: int) -> list[str]:
        return first_texts(open_source(SourceConfig(SourceKind.stdlib), seed=seed), 5)

    assert texts(0) == texts(0) != texts(1)


def test_idioms_have_no_end_unless_told() -> None:
    endless = open_source(SourceConfig(SourceKind.idioms), seed=0)
    bounded = open_source(SourceConfig(SourceKind.idioms, max_documents=3), seed=0)
    assert endless.is_endless and not bounded.is_endless
    assert len(list(bounded.documents())) == 3
    assert first_texts(endless, 3) == first_texts(bounded, 3)


def test_files_leave_out_blank_texts(corpus: Path) -> None:
    source = open_source(SourceConfig(SourceKind.files, paths=[f"{corpus}/*.py"]), seed=0)
    assert len(list(source.documents())) == 41


def test_a_changed_file_changes_the_fingerprint(corpus: Path) -> None:
    source = open_source(SourceConfig(SourceKind.files, paths=[f"{corpus}/*.py"]), seed=0)
    before = source.fingerprint()
    assert source.fingerprint() == before
    (corpus / "module_0.py").write_text("something else\n")
    assert source.fingerprint() != before


@pytest.fixture
def hub_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(datasets.config, "HF_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "rows"
    folder.mkdir()
    rows = [json.dumps({"code": f"value = {index}\n", "size": index}) for index in range(20)]
    (folder / "train.jsonl").write_text("\n".join(rows))
    return folder


def hub(folder: Path, **options: object) -> Source:
    return open_source(SourceConfig(SourceKind.hub, dataset=str(folder), max_documents=7, **options), seed=0)


def test_hub_streams_as_many_documents_as_asked(hub_folder: Path) -> None:
    texts = [document.text for document in hub(hub_folder, text_field="code").documents()]
    assert texts == [f"value = {index}\n" for index in range(7)]


def test_hub_without_the_field_is_refused(hub_folder: Path) -> None:
    with pytest.raises(UserError, match='has no field "text": set text_field to one of code, size'):
        list(hub(hub_folder).documents())


def test_hub_without_the_split_is_refused(hub_folder: Path) -> None:
    with pytest.raises(UserError, match="Could not read the data set"):
        list(hub(hub_folder, split="nowhere").documents())
