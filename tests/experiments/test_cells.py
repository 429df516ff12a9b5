"""Cells: work is done once for every key, and what is kept is there again for another process."""

import json
from pathlib import Path

from experiments.cells import Cells, means


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
