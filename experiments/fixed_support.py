"""What it costs to choose the support only every N steps, and what it saves: `tiny` on the default mixture.

    python -m experiments.fixed_support --n-tokens 2000000 --seeds 0 1

One run folder for each N and seed: given again, the command goes on with runs that were stopped and leaves finished ones alone.
Afterwards steps are timed on random tokens; of N steps one chooses, and their mean counts. Optimizer state is AdamW's between
two choices.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from sparse_circuits.conf import compose
from sparse_circuits.model import Transformer
from sparse_circuits.run import choose_autocast, choose_device, read_json, write_json
from sparse_circuits.training.fixed_support import FixedSupportStep
from sparse_circuits.training.step import PretrainStep
from sparse_circuits.walk import training

REPEATS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--every", type=int, nargs="+", default=[1, 8, 64, 512], help="steps between two choices, N")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--n-tokens", type=int, default=2_000_000, help="training tokens of each run")
    parser.add_argument("--folder", type=Path, default=Path("runs/fixed_support"))
    parser.add_argument("--set", nargs="*", default=[], help="other settings of sparse-circuits train")
    arguments = parser.parse_args()
    console, rows = Console(), []
    for every in arguments.every:
        told = [*arguments.set, f"sparsity.support_every={every}", f"n_tokens={arguments.n_tokens}", "tasks=[]"]
        losses = [train(told, seed, arguments.folder / f"every_{every}_seed_{seed}", console) for seed in arguments.seeds]
        rows.append({"every": every, "losses": losses, **measure(told, every)})
    write_json(arguments.folder / "table.json", rows)
    grid = Table("N", "validation loss, by seed", "mean", "ms a step", "optimizer state, MB", "without bigram table")
    for row in rows:
        losses = (", ".join(f"{loss:.4f}" for loss in row["losses"]), f"{statistics.fmean(row['losses']):.4f}")
        megabytes = (f"{row[name] / 1e6:.2f}" for name in ("state_bytes", "state_bytes_without_bigram"))
        grid.add_row(str(row["every"]), *losses, f"{1e3 * row['seconds']:.1f}", *megabytes)
    console.print(grid)


def train(told: list[str], seed: int, folder: Path, console: Console) -> float:
    """Train, or go on training, into the folder and return the validation loss."""
    if not (folder / "model.json").exists():
        training.train(compose("train", [*told, f"seed={seed}", f"run={folder}", "resume=true"]), console)
    return read_json(folder / "model.json")["validation_loss"]


def measure(told: list[str], every: int) -> dict[str, float]:
    """Return the mean seconds of a step at this N once annealing is over, and the bytes of AdamW's state."""
    config = compose("train", [*told, "sparsity.anneal=none"])
    device = choose_device(config.device)
    model = Transformer(config.model, d_vocab=config.data.d_vocab).to(device)
    kind = PretrainStep if every == 1 else FixedSupportStep
    step = kind(model, config, autocast=choose_autocast(config.precision, device))
    batch = torch.randint(config.data.d_vocab, (config.batch_size, config.model.n_ctx + 1))
    step(batch, index=0)
    choosing, other = (statistics.median(seconds(step, batch, index) for _ in range(REPEATS)) for index in (every - 1, every))
    n_bytes = {p: sum(value.nbytes for value in state.values()) for p, state in step.optimizer.state.items()}
    without = sum(n_bytes.values()) - n_bytes.get(model.bigram, 0)
    mean = (choosing + (every - 1) * other) / every
    return {"seconds": mean, "state_bytes": sum(n_bytes.values()), "state_bytes_without_bigram": without}


def seconds(step: PretrainStep | FixedSupportStep, batch: torch.Tensor, index: int) -> float:
    start = time.perf_counter()
    float(step(batch, index=index)["loss"])  # waits for a GPU
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
