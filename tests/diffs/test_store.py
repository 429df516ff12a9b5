"""A store gives back what was put in, and notices what is not that any more."""

from pathlib import Path

import pytest
from diffs.models import ours
from diffs.test_adapter import written

from sparse_circuits.diffs.store import DiffStore, Part
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.errors import UserError


def test_diffs_are_kept_by_split_and_a_store_grows(tmp_path: Path) -> None:
    diffs = [written(ours(), number) for number in range(4)]
    DiffStore(tmp_path).add(diffs[:2], split=Part.train)
    DiffStore(tmp_path).add(diffs[2:], split=Part.test)
    store = DiffStore(tmp_path)
    assert store.base == "b" and [entry.split for entry in store.entries] == [Part.train] * 2 + [Part.test] * 2
    assert [diff.about["number"] for diff in store.load(split=Part.test)] == [2, 3]
    for entry, diff, loaded in zip(store.entries, diffs, store.load(), strict=True):
        assert entry.norm == pytest.approx(diff.norm()) == pytest.approx(loaded.norm())
        assert entry.about == {"number": diff.about["number"]}


def test_what_is_missing_changed_or_of_another_base_is_refused(tmp_path: Path) -> None:
    store = DiffStore(tmp_path)
    with pytest.raises(UserError, match="holds no diffs: add some"):
        next(store.load())
    store.add([written(ours(), 1), written(ours(), 2)], split=Part.train)
    with pytest.raises(UserError, match="no diffs to test"):
        next(store.load(split=Part.test))
    with pytest.raises(UserError, match="this one is of other"):
        store.add([WeightDiff({}, "other")], split=Part.train)
    first, second = (tmp_path / entry.file for entry in store.entries)
    first.write_bytes(second.read_bytes())
    with pytest.raises(UserError, match="not the file that the index names"):
        next(DiffStore(tmp_path).load())
    first.unlink()
    with pytest.raises(UserError, match="is missing"):
        next(DiffStore(tmp_path).load())
    (tmp_path / "index.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        DiffStore(tmp_path)
