"""Two processes under torchrun train as one does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.track import read_metrics


def train(folder: Path, *more: str, config: TrainConfig, processes: int, verb: str = "train") -> list[dict]:
    launcher = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    (source,) = config.data.sources
    overrides = [
        "model.n_layers=1",
        "model.d_model=16",
        "model.d_head=8",
        "model.n_ctx=16",
        f"data.sources=[{{kind:files,paths:['{source.paths[0]}']}}]",
        "data.d_vocab=300",
        "data.validation_fraction=0.2",
        f"data.folder={config.data.folder}",
        "l0_fraction=0.3",
        "n_tokens=1536",
        "batch_size=8",
        "evaluation_batches=2",
        "log_every=1",
        "precision=float32",
        "device=cpu",
        f"run={folder}",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [*launcher, "-m", "sparse_circuits.cli", verb, *overrides, *more]
    finished = subprocess.run(command, capture_output=True, env=environment, text=True)
    assert finished.returncode == 0, finished.stderr
    return read_metrics(folder / "metrics.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize("support_every", [1, 4])
def test_two_processes_give_the_losses_of_one(config: TrainConfig, tmp_path: Path, support_every: int) -> None:
    settings = ["tasks=[]", f"sparsity.support_every={support_every}"]
    alone = train(tmp_path / "alone", *settings, config=config, processes=1)
    together = train(tmp_path / "together", *settings, config=config, processes=2)
    assert len(alone) == len(together) == 13
    for one, two in zip(alone, together, strict=True):
        for name in one.keys() & {"loss", "validation_loss"}:
            assert two[name] == pytest.approx(one[name], rel=1e-5)


@pytest.mark.slow
def test_two_processes_train_a_bridge_as_one_does(config: TrainConfig, tmp_path: Path) -> None:
    dense = tmp_path / "dense"
    train(dense, "tasks=[]", "l0_fraction=1", "model.abs_topk=1", config=config, processes=1)
    alone, together = (
        train(tmp_path / str(processes), f"dense={dense}", config=config, processes=processes, verb="bridge")
        for processes in (1, 2)
    )
    assert len(alone) == len(together) == 13
    for one, two in zip(alone, together, strict=True):
        for name in one.keys() & {"loss", "validation_loss"}:
            # An error relative to the stream's size, and the running size itself, are of a process's own part of the batch.
            assert two[name] == pytest.approx(one[name], rel=0.02)
    assert (tmp_path / "2" / "bridge.json").exists()
