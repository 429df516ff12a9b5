"""Cells: work is done once for every key, and what is kept is there again for another process."""

import json
import os
from pathlib import Path

import pytest
import torch

from experiments.cells import Cells, means, run_by_seed


def test_work_is_done_once_for_a_key_and_kept(tmp_path: Path) -> None:
    done = []

    def work() -> dict[str, object]:
        done.append(len(done))
        return {"sizes": {"0.1": [3, done[-1]]}}

    cells = Cells(tmp_path / "results" / "study.jsonl")
    first = cells.run(work, task="var_if", seed=0)
    assert cells.run(work, task="var_if", seed=0) == first and done == [0]
    assert cells.run(work, task="var_if", seed=1)["sizes"] == {"0.1": [3, 1]}
    again = Cells(cells.path)
    assert again.rows == cells.rows == [json.loads(line) for line in cells.path.read_text().splitlines()]
    assert again.run(work, task="var_if", seed=1) == cells.rows[1] and done == [0, 1]
    assert again.select(task="var_if") == cells.rows and again.select(seed=2) == []


def test_numbers_stand_beside_their_mean() -> None:
    rows = [{"gate": [1.0, 0.5], "rank": {4: 0.25}, "passes": True, "said": "x"}, {"gate": [0.0, 0.5], "rank": {4: 0.75}}]
    lines = [line.split() for line in means(rows).splitlines()]
    assert lines == [
        ["gate.0", "0.500", "1.000", "0.000"],
        ["gate.1", "0.500", "0.500", "0.500"],
        ["rank.4", "0.500", "0.250", "0.750"],
    ]


def cell(seed: int) -> dict[str, object]:
    return {"double": 2 * seed, "process": os.getpid(), "threads": torch.get_num_threads()}


def test_seeds_have_a_process_of_one_thread_each_and_are_run_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "study.jsonl"
    monkeypatch.setattr("sys.argv", ["study", "--seeds", "3", "5", "--out", str(path)])
    run_by_seed(cell, "A study.", study="study")
    rows = Cells(path).rows
    assert {row["seed"]: row["double"] for row in rows} == {3: 6, 5: 10}
    assert len({os.getpid(), *(row["process"] for row in rows)}) == 3 and {row["threads"] for row in rows} == {1}
    assert [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("double")] == [
        ["double", "8.000", "6.000", "10.000"]
    ]
    run_by_seed(cell, "A study.", study="study")
    assert Cells(path).rows == rows
