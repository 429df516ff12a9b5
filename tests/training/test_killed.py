"""Killed at any instant, a run resumes to the bits of the undisturbed one."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sparse_circuits.model.store import read_tensors
from sparse_circuits.training.checkpoint import CheckpointFolder

ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}
MODEL = ["model.n_layers=1", "model.d_model=16", "model.d_head=8", "model.n_ctx=16", "model.positions=none", "l0_fraction=0.3"]
TRAINING = ["n_tokens=64000", "batch_size=8", "evaluate_every=100", "evaluation_batches=2", "checkpoint_every=50", "tasks=[]"]
DATA = ["data.d_vocab=300", "data.validation_fraction=0.2"]
MACHINE = ["precision=float32", "device=cpu", "resume=true"]


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "texts").mkdir()
    for number in range(60):
        lines = [f"def function_{number}_{line}(value):\n    return value + {line}\n" for line in range(20)]
        (tmp_path / "texts" / f"{number}.py").write_text("\n".join(lines))
    data = [*DATA, f"data.sources=[{{kind:files,paths:['{tmp_path}/texts/*.py']}}]", f"data.folder={tmp_path}/cache"]
    return [sys.executable, "-m", "sparse_circuits.cli", "train", *MODEL, *TRAINING, *MACHINE, *data]


def checkpoints(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("step_*"))


def kill_when(command: list[str], happened: Callable[[], bool]) -> None:
    """Start the run and kill it, without warning, at the moment that `happened` says so."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ONE_THREAD)
    while not happened():
        assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()


def some_time_after(run: Path, step: int) -> Callable[[], bool]:
    """True at a random moment after the checkpoint of `step`."""

    def happened() -> bool:
        if not checkpoints(run) or checkpoints(run)[-1] < f"step_{step:08d}":
            return False
        time.sleep(random.uniform(0, 0.3))
        return True

    return happened


@pytest.mark.slow
def test_killed_three_times_once_while_a_checkpoint_is_written(command: list[str], tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    subprocess.run([*command, f"run={whole}"], check=True, capture_output=True, env=ONE_THREAD)
    assert checkpoints(whole)[-1] == "step_00000500.safetensors"
    for step in (50, 200):
        kill_when([*command, f"run={broken}"], some_time_after(broken, step))
    folder = CheckpointFolder(broken / "checkpoints", every=0, keep=1)
    kill_when([*command, f"run={broken}"], lambda: any(folder.unfinished()))
    assert any(folder.unfinished())
    subprocess.run([*command, f"run={broken}"], check=True, capture_output=True, env=ONE_THREAD)
    expected, found = (read_tensors(run / "model" / "model.safetensors", kind="model").tensors for run in (whole, broken))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert not any((broken / "checkpoints").glob(".*"))
