"""Where the whole model of some circuits is found."""

from pathlib import Path

import pytest

from sparse_circuits import cli
from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer, save_model
from sparse_circuits.model.store import model_hash
from sparse_circuits.pretrained import load_pretrained
from sparse_circuits.subject import circuit_path, model_of_circuits
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
