import json

import pytest

from sparse_circuits.errors import UserError
from sparse_circuits.report import render
from sparse_circuits.report.payload import SCHEMA, circuit_payload, run_payload, to_json
from sparse_circuits.subject import samples_of


def test_a_whole_run_gives_every_part(run_folder):
    payload = run_payload(run_folder)
    assert payload["schema"] == SCHEMA == {"name": "sparse_circuits.report", "version": 2}
    assert payload["run"]["name"] == "small"
    assert payload["run"]["tokens_per_step"] == 32 * 256
    assert payload["run"]["n_tokens"] == payload["run"]["n_steps"] * 32 * 256
    assert payload["data"]["sources"] == [{"title": "stdlib", "share": 1.0}]
    assert payload["model"]["validation_loss"] == 2.5
    assert payload["curves"]["training"]["loss"] == [4.0, 3.0, 2.0]
    assert [row["task"] for row in payload["tasks"]] == ["with_as", "single_double_quote"]
    assert [circuit["task"] for circuit in payload["circuits"]] == ["single_double_quote"]


def test_a_run_that_has_only_begun_leaves_the_rest_out(run_folder):
    for name in ("model.json", "data.json", "tasks.json", "metrics.jsonl", "circuits/single_double_quote.safetensors"):
        (run_folder / name).unlink()
    payload = run_payload(run_folder)
    assert payload["run"]["git"] == "abc"
    assert [payload[part] for part in ("data", "model", "curves", "tasks")] == [None] * 4
    assert payload["circuits"] == []


def test_circuits_stand_in_the_order_of_the_tasks(run_folder, make_circuit):
    for name in ("with_as", "a_task_of_the_user"):
        make_circuit(name).save(run_folder / "circuits" / f"{name}.safetensors")
    order = [circuit["task"] for circuit in run_payload(run_folder)["circuits"]]
    assert order == ["with_as", "single_double_quote", "a_task_of_the_user"]


def test_json_has_no_infinities(make_circuit):
    payload = circuit_payload(make_circuit())
    payload["circuits"][0]["checks"][0]["loss"] = float("inf")
    payload["curves"] = {"training": {"loss": [1.0, float("nan")]}}
    read = json.loads(to_json(payload), parse_constant=pytest.fail)
    assert read["circuits"][0]["checks"][0]["loss"] is None
    assert read["curves"]["training"]["loss"] == [1.0, None]


def test_a_folder_of_neither_a_run_nor_circuits_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"neither run.json nor circuits.*give the folder"):
        run_payload(tmp_path)


def test_a_folder_of_circuits_alone_has_a_page(tmp_path, make_circuit):
    (tmp_path / "circuits").mkdir()
    make_circuit("with_open").save(tmp_path / "circuits" / "with_open.safetensors")
    payload = run_payload(tmp_path)
    assert payload["run"] is payload["curves"] is payload["model"] is None
    assert [circuit["task"] for circuit in payload["circuits"]] == ["with_open"]
    assert "with_open · sparse_circuits" in render(payload)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", "{"),
        ("run.json", "{}"),
        ("run.json", "[]"),
        ("model.json", "{"),
        ("tasks.json", ""),
        ("metrics.jsonl", '{"step": 1\n{"step": 2, "loss": 3.0}\n'),
        ("circuits/single_double_quote.safetensors", "no tensors"),
    ],
)
def test_a_damaged_file_is_named(run_folder, name, content):
    (run_folder / name).write_text(content)
    with pytest.raises(UserError, match=name.split("/")[-1]):
        run_payload(run_folder)


def test_a_sample_of_training_tokens_gives_behaviours(run_folder):
    assert run_payload(run_folder)["samples"] == {}
    payload = run_payload(run_folder, samples=samples_of(run_folder))
    (sample,) = payload["samples"].values()
    assert sample["n_pos"] == 128
    assert "1.attn.q[3]" in sample["nodes"]
    assert max(sample["tokens"]) < len(payload["texts"])


def test_samples_of_other_models_are_left_alone(make_circuit):
    payload = circuit_payload(make_circuit())
    assert payload["samples"] == {}
    assert payload["live"] is None
