"""How files are written, which device a process takes, how processes talk, and what a run folder says of itself."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch

from sparse_circuits.errors import UserError
from sparse_circuits.run import Device, alone_in, check_run_folder, choose_device, process_group, write_json


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"Could not write .*run.json \(Not a directory\): .* choose another folder"):
        write_json(tmp_path / "file" / "folder" / "run.json", {})


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Mock:
    """Pretend that the machine has two GPUs, and return what is told which of them is the current one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", Mock())
    return torch.cuda.set_device


@pytest.mark.parametrize("wanted", [Device.auto, Device.cuda])
def test_a_process_of_several_makes_its_own_gpu_the_current_one(
    wanted: Device, two_gpus: Mock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert choose_device(wanted) == torch.device("cuda", 1)
    two_gpus.assert_called_once_with(1)


def test_more_processes_than_gpus_are_refused(two_gpus: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match=r"Process 3 of this machine has no GPU .* --nproc-per-node=2"):
        choose_device(Device.auto)
    assert choose_device(Device.cpu) == torch.device("cpu")
    two_gpus.assert_not_called()


@pytest.mark.usefixtures("two_gpus")
def test_beside_gpus_processes_can_talk_of_what_is_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Mock()
    for name in ("init_process_group", "barrier", "destroy_process_group"):
        monkeypatch.setattr(torch.distributed, name, begin)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with process_group():
        begin.assert_called_once_with("cpu:gloo,cuda:nccl")


def test_a_run_is_resumed_with_all_that_it_recorded_and_with_what_an_earlier_version_did_not(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"config": {"seed": 0, "dense": "there"}})
    check_run_folder(tmp_path, config={"seed": 0, "dense": "there", "bridge": 1}, resume=True)
    for config, changed in (({"seed": 1, "dense": "there"}, "seed"), ({"seed": 0}, "dense")):
        with pytest.raises(UserError, match=rf"other settings \({changed}\)"):
            check_run_folder(tmp_path, config=config, resume=True)


def test_one_run_at_a_time_works_in_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with alone_in(folder), pytest.raises(UserError, match=r"Another run is at work in .*run: wait"), alone_in(folder):
        pass
    with alone_in(folder):
        pass
    (folder / "file").touch()
    with pytest.raises(UserError, match=r"Could not write .*in \(Not a directory\)"), alone_in(folder / "file" / "in"):
        pass
