"""Tokens a second of one full training step, ours against the naive baseline, in one process and in turn.

    python -m experiments.bench_train_step

Batch 32 x 128 over 2048 ids, bigram table and sinks on, L0 1/16; float32 and bf16 autocast, the better of the two counted for
each side. Medians over repeats; peak memory is read from a fresh process a side.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from experiments.naive import NaiveStep, NaiveTransformer
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.run import Precision, choose_autocast
from sparse_circuits.sparsity import Anneal, SparsityConfig
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.step import PretrainStep

PRESETS = {
    "tiny": ModelConfig(n_layers=2, d_model=128),
    "small": ModelConfig(n_layers=4, d_model=256),
    "medium": ModelConfig(n_layers=6, d_model=512),
}
D_VOCAB, BATCH = 2048, 32
PRECISIONS = (Precision.float32, Precision.bf16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--presets", nargs="+", default=list(PRESETS), choices=list(PRESETS))
    parser.add_argument("--repeats", type=int, default=7, help="timed steps of each side and precision")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        print(peak_megabytes(*arguments.memory.split(",")))
        return
    rows = [measure(preset, repeats=arguments.repeats) for preset in arguments.presets]
    Console().print(table(rows))
    print(json.dumps(rows))


def measure(preset: str, *, repeats: int) -> dict[str, float | str]:
    """Time both sides in turn, step by step, so that whatever else the machine does strikes both."""
    steps = {(side, precision): build(preset, side, precision) for side in SIDES for precision in PRECISIONS}
    seconds = {key: [] for key in steps}
    for _ in range(repeats + 1):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[key].append(time.perf_counter() - start)
    tokens = BATCH * PRESETS[preset].n_ctx
    speed = {key: tokens / statistics.median(times[1:]) for key, times in seconds.items()}
    best = {side: max(speed[side, precision] for precision in PRECISIONS) for side in SIDES}
    row = {"preset": preset, "ratio": best["ours"] / best["naive"]}
    for (side, precision), value in speed.items():
        row[f"{side}_{precision.name}"] = value
    for side in SIDES:
        row[f"{side}_megabytes"] = min(memory_of(preset, side, precision) for precision in PRECISIONS)
    return row


def build_ours(preset: str, precision: Precision) -> Callable[[torch.Tensor], object]:
    config = TrainConfig(model=PRESETS[preset], sparsity=SparsityConfig(anneal=Anneal.none))
    model = Transformer(config.model, d_vocab=D_VOCAB)
    step = PretrainStep(model, config, autocast=choose_autocast(precision, torch.device("cpu")))
    return lambda batch: step(batch, index=config.n_steps // 2)


def build_naive(preset: str, precision: Precision) -> Callable[[torch.Tensor], object]:
    shape = PRESETS[preset]
    model = NaiveTransformer(
        n_layers=shape.n_layers, d_model=shape.d_model, d_head=shape.d_head, n_ctx=shape.n_ctx, d_vocab=D_VOCAB
    )
    return NaiveStep(model, l0_fraction=1 / 16, floor=4, lr=6e-3, autocast=precision is Precision.bf16)


SIDES = {"ours": build_ours, "naive": build_naive}


def build(preset: str, side: str, precision: Precision) -> Callable[[], object]:
    """Return a step on batches whose tokens are as unevenly frequent as those of text."""
    torch.manual_seed(0)
    step = SIDES[side](preset, precision)
    frequency = 1 / torch.arange(1, D_VOCAB + 1)
    return lambda: step(torch.multinomial(frequency, BATCH * 129, replacement=True).view(BATCH, 129))


def memory_of(preset: str, side: str, precision: Precision) -> float:
    command = [sys.executable, "-m", "experiments.bench_train_step", "--memory", f"{preset},{side},{precision.name}"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def peak_megabytes(preset: str, side: str, precision: str) -> float:
    """Return the peak memory of three steps over what the process held before it built the model."""
    before = peak_of_this_process()
    step = build(preset, side, Precision[precision])
    for _ in range(3):
        step()
    return peak_of_this_process() - before


def peak_of_this_process() -> float:
    """Return the most memory held so far, in MB (Linux; getrusage would include the parent's peak)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def table(rows: list[dict[str, float | str]]) -> Table:
    mean = math.prod(float(row["ratio"]) for row in rows) ** (1 / len(rows))
    grid = Table(title=f"training step, tokens/s; geometric mean of the ratios {mean:.2f}")
    for name in rows[0]:
        grid.add_column(name)
    for row in rows:
        grid.add_row(*(value if isinstance(value, str) else f"{value:,.2f}" for value in row.values()))
    return grid


if __name__ == "__main__":
    main()
