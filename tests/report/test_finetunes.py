"""What `embed` and `dit` left is on the page, alone or beside a run."""

import pytest
import torch

from sparse_circuits.diffs.pool import POOL_FILE, Pool
from sparse_circuits.report import render, run_payload
from sparse_circuits.run import write_json


def pool(*vectors):
    names = [f"n{number}" for number in range(len(vectors))]
    return Pool(names, torch.tensor(vectors), ["a", "b"] * (len(vectors) // 2), {})


def test_a_pool_has_neighbours_norms_and_maps(tmp_path):
    pool([3.0, 4.0], [0.0, 2.0], [4.0, 3.0], [0.1, 2.0]).save(tmp_path / POOL_FILE)
    payload = run_payload(tmp_path)
    found = payload["finetunes"]["pool"]
    assert payload["run"] is None and payload["circuits"] == [] and payload["finetunes"]["interpreted"] is None
    assert found["norms"][:3] == [5, 2, 5] and found["nearest"][2] == (0, pytest.approx(0.96))
    assert [place for place, _ in found["nearest"]] == [2, 3, 0, 1] and found["clustering"] is None
    assert [len(points) for points in found["maps"].values()] == [4, 4]
    assert "finetunes · sparse_circuits" in render(payload)


def test_without_directions_there_is_a_table_and_no_map(tmp_path):
    pool([0.0, 0.0], [0.0, 2.0], [1.0, 2.0], [1.0, 0.0]).save(tmp_path / POOL_FILE)
    found = run_payload(tmp_path)["finetunes"]["pool"]
    assert found["maps"] == {} and found["nearest"][0] is None
    assert [near[0] for near in found["nearest"][1:]] == [2, 1, 2]


def test_answers_lie_beside_a_run_json_of_their_own(tmp_path):
    scores = {"question": "What?", "labels": ["tea"], "rows": [], "confidence": None}
    write_json(tmp_path / "dit.json", scores)
    write_json(tmp_path / "run.json", {"config": {"question": "What?"}})
    payload = run_payload(tmp_path)
    assert payload["run"] is None and payload["finetunes"] == {"pool": None, "interpreted": scores}


def test_a_training_run_keeps_its_page_beside_a_pool(run_folder):
    pool([3.0, 4.0], [0.0, 2.0]).save(run_folder / POOL_FILE)
    payload = run_payload(run_folder)
    assert payload["run"]["name"] == "small" and payload["circuits"] and payload["finetunes"]["pool"]["names"] == ["n0", "n1"]
