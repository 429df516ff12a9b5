"""What a run says while it trains."""

import io

from rich.console import Console

from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.pretrain import pretrain


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
