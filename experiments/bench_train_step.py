"""Tokens a second of one full training step, ours against the naive baseline, in one process and in turn.

    python -m experiments.bench_train_step                                    tiny, small and medium on the CPU
    python -m experiments.bench_train_step --device cuda --presets paper      the paper's width, on a GPU

Batch 32 x 128 (the paper's preset: 64 x 256) over 2048 ids, bigram table and sinks on, L0 1/16; float32 and bf16 autocast, the
better of the two counted for each side. Medians over repeats; peak memory is read from a fresh process a side.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from experiments.naive import NaiveStep, NaiveTransformer
from sparse_circuits.kernels.bench import processor, time_in_turn
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.run import Precision, choose_autocast
from sparse_circuits.sparsity import Anneal, SparsityConfig
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.step import PretrainStep

PRESETS = {
    "tiny": ModelConfig(n_layers=2, d_model=128),
    "small": ModelConfig(n_layers=4, d_model=256),
    "medium": ModelConfig(n_layers=6, d_model=512),
    "paper": ModelConfig(n_layers=8, d_model=2048, n_ctx=256),
}
BATCH = {"tiny": 32, "small": 32, "medium": 32, "paper": 64}
D_VOCAB = 2048
PRECISIONS = (Precision.float32, Precision.bf16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--presets", nargs="+", default=["tiny", "small", "medium"], choices=list(PRESETS))
    parser.add_argument("--repeats", type=int, default=7, help="timed steps of each side and precision")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.memory:
        print(peak_megabytes(*arguments.memory.split(","), device=device))
        return
    rows = [measure(preset, device=device, repeats=arguments.repeats) for preset in arguments.presets]
    name = torch.cuda.get_device_name() if device.type == "cuda" else processor()
    Console().print(table(rows, title=f"{name}, training step, tokens/s"))
    print(json.dumps(rows))


def measure(preset: str, *, device: torch.device, repeats: int) -> dict[str, float | str]:
    """Time both sides in turn, step by step, so that whatever else the machine does strikes both."""
    steps = {(side, precision): build(preset, side, precision, device) for side in SIDES for precision in PRECISIONS}
    timings = time_in_turn(steps, device, repeats=repeats)
    tokens = BATCH[preset] * PRESETS[preset].n_ctx
    speed = {key: tokens / timing.median for key, timing in timings.items()}
    best = {side: max(speed[side, precision] for precision in PRECISIONS) for side in SIDES}
    row = {"preset": preset, "ratio": best["ours"] / best["naive"]}
    for (side, precision), value in speed.items():
        row[f"{side}_{precision.name}"] = value
    for side in SIDES:
        row[f"{side}_megabytes"] = min(memory_of(preset, side, precision, device) for precision in PRECISIONS)
    return row


def build_ours(preset: str, precision: Precision, device: torch.device) -> Callable[[torch.Tensor], object]:
    config = TrainConfig(model=PRESETS[preset], sparsity=SparsityConfig(anneal=Anneal.none))
    model = Transformer(config.model, d_vocab=D_VOCAB).to(device)
    step = PretrainStep(model, config, autocast=choose_autocast(precision, device))
    return lambda batch: step(batch, index=config.n_steps // 2)


def build_naive(preset: str, precision: Precision, device: torch.device) -> Callable[[torch.Tensor], object]:
    shape = PRESETS[preset]
    model = NaiveTransformer(
        n_layers=shape.n_layers, d_model=shape.d_model, d_head=shape.d_head, n_ctx=shape.n_ctx, d_vocab=D_VOCAB
    ).to(device)
    return NaiveStep(model, l0_fraction=1 / 16, floor=4, lr=6e-3, autocast=precision is Precision.bf16)


SIDES = {"ours": build_ours, "naive": build_naive}


def build(preset: str, side: str, precision: Precision, device: torch.device) -> Callable[[], object]:
    """Return a step on batches whose tokens are as unevenly frequent as those of text."""
    torch.manual_seed(0)
    step = SIDES[side](preset, precision, device)
    shape = (BATCH[preset], PRESETS[preset].n_ctx + 1)
    frequency = 1 / torch.arange(1, D_VOCAB + 1, device=device)
    return lambda: step(torch.multinomial(frequency, math.prod(shape), replacement=True).view(shape))


def memory_of(preset: str, side: str, precision: Precision, device: torch.device) -> float:
    command = [sys.executable, "-m", "experiments.bench_train_step", "--device", device.type]
    command += ["--memory", f"{preset},{side},{precision.name}"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def peak_megabytes(preset: str, side: str, precision: str, *, device: torch.device) -> float:
    """Return the peak memory of three steps over what the process held before it built the model."""
    before = peak_of_this_process(device)
    step = build(preset, side, Precision[precision], device)
    for _ in range(3):
        step()
    return peak_of_this_process(device) - before


def peak_of_this_process(device: torch.device) -> float:
    """Return the most memory held so far, in MB (on a CPU from Linux; getrusage would include the parent's peak)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def table(rows: list[dict[str, float | str]], *, title: str) -> Table:
    mean = math.prod(float(row["ratio"]) for row in rows) ** (1 / len(rows))
    grid = Table(title=f"{title}; geometric mean of the ratios {mean:.2f}")
    for name in rows[0]:
        grid.add_column(name)
    for row in rows:
        grid.add_row(*(value if isinstance(value, str) else f"{value:,.2f}" for value in row.values()))
    return grid


if __name__ == "__main__":
    main()
