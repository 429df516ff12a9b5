"""Cells: work is done once for every key, and what is kept is there again for another process."""

import json
from pathlib import Path

from experiments.cells import Cells


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
