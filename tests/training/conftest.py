"""A run small enough to train in a second: a corpus of a few files, a tiny model."""

from pathlib import Path

import pytest

from sparse_circuits.data import DataConfig, SourceConfig, SourceKind
from sparse_circuits.model import ModelConfig
from sparse_circuits.run import Precision
from sparse_circuits.sparsity import SparsityConfig
from sparse_circuits.training.config import TrainConfig


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(60):
        lines = [f"def function_{number}_{line}(value):\n    return value + {line}\n" for line in range(20)]
        (folder / f"module_{number}.py").write_text("\n".join(lines))
    source = SourceConfig(SourceKind.files, paths=[str(folder / "*.py")])
    return DataConfig(sources=[source], d_vocab=300, validation_fraction=0.2, folder=folder / "cache")


@pytest.fixture
def config(corpus: DataConfig) -> TrainConfig:
    return TrainConfig(
        model=ModelConfig(n_layers=1, d_model=16, d_head=8, n_ctx=16),
        data=corpus,
        sparsity=SparsityConfig(l0_fraction=0.3),
        n_tokens=16 * 8 * 24,
        batch_size=8,
        evaluate_every=12,
        evaluation_batches=2,
        checkpoint_every=5,
        log_every=1,
        precision=Precision.float32,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
