"""Where the whole model of some circuits is found."""

from pathlib import Path

import pytest

from sparse_circuits import cli
from sparse_circuits.data import DataConfig, SourceConfig, SourceKind, Tokenizer, prepare
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer, save_model
from sparse_circuits.model.store import model_hash
from sparse_circuits.plain import to_plain
from sparse_circuits.pretrained import load_pretrained
from sparse_circuits.run import write_json
from sparse_circuits.subject import circuit_path, model_of_circuits, subject_of, validation_rows
from sparse_circuits.training.config import TrainConfig
from tests.report.small import small_circuit, small_model, small_tokenizer


def save(folder: Path) -> str:
    """Write a tiny model, and return its hash."""
    tokenizer = Tokenizer.train(["ab"], d_vocab=257)
    model = Transformer(ModelConfig(n_layers=1, d_model=16, n_ctx=8, d_head=4), d_vocab=257)
    save_model(model, folder / "model", tokenizer=tokenizer.to_json())
    return model_hash(model)


def test_a_runs_own_model_comes_first_then_what_is_named(tmp_path: Path) -> None:
    own, other = save(tmp_path / "own"), save(tmp_path / "other")
    assert model_hash(model_of_circuits(tmp_path / "own", None, {other}).model) == own
    assert model_hash(model_of_circuits(tmp_path / "own", str(tmp_path / "other"), {other}).model) == other
    with pytest.raises(UserError, match="does not exist"):
        model_of_circuits(tmp_path / "own", str(tmp_path / "nowhere"), {other})


def test_a_model_that_comes_with_the_package_is_known_by_its_hash(tmp_path: Path) -> None:
    known = load_pretrained("python-3x128").means.model_hash
    assert model_hash(model_of_circuits(tmp_path, None, {"another", known}).model) == known
    assert model_of_circuits(tmp_path, None, {"another"}) is None


def test_a_circuit_of_another_model_is_not_taken_for_this_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = small_tokenizer()
    small_circuit(small_model(tokenizer), tokenizer, "with_open").save(circuit_path(tmp_path, "with_open"))
    assert cli.main(["extract", f"run={tmp_path}", "checkpoint=pretrained:python-3x128", "task=with_open"]) == 2
    assert "is a circuit of another model than the run's: overwrite=true" in capsys.readouterr().err


def test_nothing_is_measured_on_another_corpus_than_the_runs(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"line {number} of text\n" * 20)
    source = SourceConfig(SourceKind.files, paths=[str(tmp_path / "*.txt")])
    data = DataConfig(sources=[source], d_vocab=257, validation_fraction=0.2, folder=tmp_path / "cache")
    run = tmp_path / "run"
    save(run)
    write_json(run / "run.json", {"config": to_plain(TrainConfig(data=data))})
    write_json(run / "data.json", prepare(data).manifest)
    assert validation_rows(run, n_tokens=16, n_ctx=8).shape == (2, 8)
    (tmp_path / "0.txt").write_text("another text\n" * 20)
    with pytest.raises(UserError, match=r"another corpus than .*run was begun with .* restore them"):
        validation_rows(run, n_tokens=16, n_ctx=8)
    with pytest.raises(UserError, match="another corpus"):
        subject_of(run, None).means()
