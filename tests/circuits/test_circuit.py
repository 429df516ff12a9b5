"""The circuit's file: the same probabilities in another process, small, and refused when anything is wrong with it."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sparse_circuits.circuits import Circuit, Prediction
from sparse_circuits.circuits.describe import card_lines
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.store import VERSION
from sparse_circuits.circuits.subgraph import Merge, Subgraph, subgraph_taps
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer, save_model
from sparse_circuits.model.store import read_tensors, write_tensors
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
    for name in ("nodes", "edges", "merges", "calibration", "task", "card", "recipe", "model_hash"):
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


def test_edges_that_are_not_listed_are_cut_before_and_after_the_file(toy: Toy, circuit: Circuit, tmp_path: Path) -> None:
    batch = encode_pairs(TASK, toy.tokenizer, split=Split.held_out, n_pairs=8, seed=9)
    fewer = dataclasses.replace(circuit, edges=circuit.edges[::2])
    fewer.save(tmp_path / "fewer.safetensors")
    loaded = Circuit.load(tmp_path / "fewer.safetensors")
    assert loaded.edges == fewer.edges
    torch.testing.assert_close(loaded.margins(batch), fewer.margins(batch))
    subgraph = Subgraph(circuit.nodes, circuit.edges[::2], tuple(circuit.merges))
    by_hand = answer_margins(toy.model, batch, taps=subgraph_taps(toy.model, subgraph, toy.means))
    torch.testing.assert_close(fewer.margins(batch), circuit.calibration(by_hand))
    assert not torch.allclose(fewer.margins(batch), circuit.margins(batch), atol=0.1)


def test_merges_survive_the_file(circuit: Circuit, tmp_path: Path) -> None:
    merges = [Merge("0.attn.v[3]", "0.attn.v[2]", ratio=-0.5, r_squared=0.99)]
    dataclasses.replace(circuit, merges=merges).save(tmp_path / "merged.safetensors")
    loaded = Circuit.load(tmp_path / "merged.safetensors")
    assert loaded.merges == merges
    assert "0.attn.v[2] writes for 0.attn.v[3] (x -0.500, R2 0.990)" in loaded.describe()


def test_describe_names_every_node_and_edge_and_prints_the_card(circuit: Circuit) -> None:
    text = circuit.describe()
    for site, channels in circuit.nodes.items():
        assert f"  {site}  {' '.join(map(str, channels))}" in text
    for edge in circuit.edges:
        assert f"{edge.source} -> {edge.target}  {edge.weight:+.3f}" in text
    for wanted in ("toy_quote", circuit.model_hash[:12], f"{circuit.card.n_nodes} nodes", *card_lines(circuit.card)):
        assert wanted in text


def test_refuses_answers_that_its_file_cannot_score(circuit: Circuit) -> None:
    with pytest.raises(UserError, match="answers of this task only, not ' b'"):
        circuit.run('("a', answers=(' b"', '")\n'))


def test_asks_for_answers_where_the_task_has_several(circuit: Circuit) -> None:
    several = dataclasses.replace(circuit, task=dataclasses.replace(circuit.task, answers=None))
    with pytest.raises(UserError, match="give answers="):
        several.run('("a')
    assert several.run('("a', answers=('")\n', "')\n")) == circuit.run('("a')


def test_refuses_the_file_of_another_version(path: Path, tmp_path: Path) -> None:
    tensors, metadata = read_tensors(path, kind="circuit")
    assert metadata["version"] == VERSION
    metadata["card"] = {"model": {"loss": 0.1, "accuracy": 1.0}, **metadata["card"]}
    write_tensors(tmp_path / "old.safetensors", tensors, kind="circuit", metadata=metadata)
    with pytest.raises(UserError, match="another version"):
        Circuit.load(tmp_path / "old.safetensors")


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
