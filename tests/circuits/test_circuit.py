"""The circuit's file: the same probabilities in another process, small, and refused when anything is wrong with it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sparse_circuits.circuits import Circuit, Prediction
from sparse_circuits.circuits.nodes import mark
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer, save_model
from sparse_circuits.model.store import read_tensors
from sparse_circuits.tasks import Split, encode_pairs
from tests.circuits.toy import TASK, Toy

PROMPTS = ['("a b', "('a b", "('h", '("c c d a']


@pytest.fixture(scope="module")
def path(circuit: Circuit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("elsewhere") / "toy.safetensors"
    circuit.save(path)
    return path


def test_same_probabilities_in_a_new_process(circuit: Circuit, path: Path) -> None:
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from sparse_circuits.circuits import Circuit\n"
        "circuit = Circuit.load(Path('toy.safetensors'))\n"
        "print(json.dumps([circuit.run(prompt) for prompt in json.loads(sys.argv[1])]))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, json.dumps(PROMPTS)], cwd=path.parent, capture_output=True, text=True, check=True
    )
    for prompt, found in zip(PROMPTS, json.loads(out.stdout), strict=True):
        assert found == pytest.approx(circuit.run(prompt), abs=1e-6)


def test_everything_survives_the_file(circuit: Circuit, path: Path, tmp_path: Path) -> None:
    loaded = Circuit.load(path)
    for name in ("nodes", "edges", "calibration", "task", "card", "recipe", "model_hash"):
        assert getattr(loaded, name) == getattr(circuit, name), name
    assert loaded.describe() == circuit.describe()
    loaded.save(tmp_path / "again.safetensors")
    assert Circuit.load(tmp_path / "again.safetensors").run(PROMPTS[0]) == loaded.run(PROMPTS[0])


def test_run_answers_with_the_right_quote_and_odds_that_sum_to_one(circuit: Circuit) -> None:
    double, single = circuit.run('("a b'), circuit.run("('a b")
    assert double.positive > 0.5 > single.positive
    assert sum(double) == pytest.approx(1) and isinstance(double, Prediction)


def test_run_is_the_calibrated_margin_of_the_ablated_model(toy: Toy, circuit: Circuit) -> None:
    batch = encode_pairs(TASK, toy.tokenizer, split=Split.held_out, n_pairs=4, seed=9)
    logits = toy.model(batch.tokens, taps=circuit.taps(), at=batch.last)
    positive, negative = batch.answers[0, :, 0]
    margin = circuit.calibration.scale * (logits[:, positive] - logits[:, negative]) + circuit.calibration.shift
    torch.testing.assert_close(circuit.margins(batch), margin)
    prompts = [toy.tokenizer.decode(tokens[: last + 1].tolist()) for tokens, last in zip(batch.tokens, batch.last, strict=True)]
    for prompt, expected in zip(prompts, margin.sigmoid().tolist(), strict=True):
        assert circuit.run(prompt).positive == pytest.approx(expected, abs=1e-6)


def test_file_keeps_only_the_answers_columns_of_the_bigram_table(circuit: Circuit, path: Path, tmp_path: Path) -> None:
    bigram = read_tensors(path, kind="circuit").tensors["weights/bigram"]
    kept = bigram.any(0).nonzero().flatten().tolist()
    assert kept == circuit.task.answer_ids and len(kept) == 2
    everything = dataclasses.replace(circuit, task=dataclasses.replace(circuit.task, answer_ids=None))
    everything.save(tmp_path / "all.safetensors")
    assert torch.equal(Circuit.load(tmp_path / "all.safetensors").model.bigram, circuit.model.bigram)


def test_describe_names_every_node_and_edge(circuit: Circuit) -> None:
    text = circuit.describe()
    for site, channels in circuit.nodes.items():
        assert f"  {site}  {' '.join(map(str, channels))}" in text
    for edge in circuit.edges:
        assert f"{edge.source} -> {edge.target}  {edge.weight:+.3f}" in text
    for wanted in ("toy_quote", "whole model", "only the circuit ablated", "best of 20 random circuits"):
        assert wanted in text


def test_taps_leave_just_the_circuit(circuit: Circuit) -> None:
    kept = mark(circuit.nodes, circuit.model.config)
    assert kept.sum() == circuit.card.n_nodes
    assert set(circuit.taps()) <= set(circuit.means.sites)


def test_refuses_answers_that_its_file_cannot_score(circuit: Circuit) -> None:
    with pytest.raises(UserError, match="answers of this task only, not ' b'"):
        circuit.run('("a', answers=(' b"', '")\n'))


def test_asks_for_answers_where_the_task_has_several(circuit: Circuit) -> None:
    several = dataclasses.replace(circuit, task=dataclasses.replace(circuit.task, answers=None))
    with pytest.raises(UserError, match="give answers="):
        several.run('("a')
    assert several.run('("a', answers=('")\n', "')\n")) == circuit.run('("a')


def test_refuses_damaged_and_foreign_files(path: Path, tmp_path: Path, toy: Toy) -> None:
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    (tmp_path / "damaged.safetensors").write_bytes(data)
    (tmp_path / "short.safetensors").write_bytes(path.read_bytes()[:5000])
    save_model(Transformer(ModelConfig(n_layers=1, d_model=16), d_vocab=9), tmp_path / "model", tokenizer="")
    for name, says in [
        ("damaged.safetensors", "damaged"),
        ("short.safetensors", "truncated"),
        ("model/model.safetensors", "holds a model, not a circuit"),
        ("nothing.safetensors", "does not exist"),
    ]:
        with pytest.raises(UserError, match=says):
            Circuit.load(tmp_path / name)
