"""What a run says while it trains."""

import dataclasses
import io
from pathlib import Path

import pytest
import wandb
from rich.console import Console

from sparse_circuits.errors import UserError
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.pretrain import pretrain
from sparse_circuits.training.track import Jsonl, Tracker, Wandb


def said(config: TrainConfig, folder, **terminal) -> str:
    stream = io.StringIO()
    pretrain(config, folder, console=Console(file=stream, **terminal))
    return stream.getvalue()


def test_a_log_file_gets_whole_lines_of_the_first_and_the_last_step(config, folder) -> None:
    machine, first, *_, last = said(config, folder, width=20).splitlines()
    assert machine == "training on cpu, kernels: cpu"
    assert first.startswith("step 1/24 ") and last.startswith("step 24/24 ")
    for part in (" M tokens", "loss ", "L0 ", "lr ", " tokens/s", " left"):
        assert part in last


def test_a_terminal_gets_one_line_that_changes(config, folder) -> None:
    text = said(config, folder, force_terminal=True, width=160)
    assert text.count("\n") < 10 and "step 24/24" in text


def test_runs_of_one_name_have_wandb_ids_of_their_own_which_a_resumed_run_keeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict] = []
    monkeypatch.setattr(wandb, "init", lambda **options: asked.append(options))
    for folder in ("one/0", "other/0", "one/0"):
        Wandb(tmp_path / folder, every=1, config={}, offline=True)
    first, second, again = (options["id"] for options in asked)
    assert first == again != second
    assert {options["name"] for options in asked} == {"0"}


def test_wandb_without_a_key_is_refused_before_the_folder_holds_a_run(
    config: TrainConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: object) -> None:
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(UserError, match=r"No API key configured.* `wandb login`, or set track=wandb_offline"):
        pretrain(dataclasses.replace(config, track=Tracker.wandb), folder)
    pretrain(config, folder)


def test_a_full_disk_is_named_with_the_way_on() -> None:
    with pytest.raises(UserError, match=r"Could not write /dev/full \(No space left on device\): free space, then resume=true"):
        Jsonl(Path("/dev/full"), every=1).log(1, {"loss": 1.0})
