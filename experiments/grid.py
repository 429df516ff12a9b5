"""Width against sparsity: the validation loss of a model, and the size of its circuits (Gao et al. 2025, figure 3).

    python -m experiments.grid --plan
    python -m experiments.grid --widths 96 160 --l0 45000 90000

Every cell trains one model of two layers on the same tokens and looks, for the tasks that it knows, those of SEEDED with three
seeds, for the fewest nodes that reach the target, by the masks of the quick budget: the edges among these are what the paper
counts. With --circuits it extracts whole circuits, too, with edge masks and clean-up, which takes a minute where circuits have
fifty edges and ten where they have two hundred. All goes on where it was stopped; models go to runs/grid, numbers to
experiments/results/grid.jsonl. Widths may run side by side, a process of one thread each.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from experiments.cells import RESULTS, Cells
from experiments.proof import known_tasks, numbers
from sparse_circuits.circuits import CardConfig, ExtractConfig, extract
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.extract import prepare_search
from sparse_circuits.circuits.measures.kurtosis import measure_kurtosis
from sparse_circuits.circuits.nodes import channels_of
from sparse_circuits.data import DataConfig, Loader, prepare
from sparse_circuits.data.corpus import SourceConfig, SourceKind
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig
from sparse_circuits.model.config import Positions
from sparse_circuits.run import read_json
from sparse_circuits.sparsity import SparsityConfig
from sparse_circuits.subject import Subject, subject_of
from sparse_circuits.tasks import TASKS
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.pretrain import check_budgets, pretrain

WIDTHS = (96, 160, 256)
L0S = (45_000, 90_000, 180_000)
"""The fewest are about what the floor of four weights a neuron leaves at width 256."""
N_TOKENS = 8_000_000
N_SEEDS = 3
SEEDED = ("single_double_quote", "fstring_brace", "while_return_true", "with_open", "for_while", "var_if")
TOKENS_A_SECOND = {96: 18_000, 160: 11_000, 256: 6_000}
"""Of training, on one core."""
KURTOSIS_TOKENS = 100_000
SECONDS_A_TASK = {96: 30, 160: 45, 256: 90}
"""Of finding nodes, on one core."""


@cache
def data_config() -> DataConfig:
    """Return the mixture of all cells: mostly idioms, which small models learn the tasks from, in the default tokens."""
    return DataConfig(
        sources=[SourceConfig(SourceKind.stdlib), SourceConfig(SourceKind.idioms, weight=20.0)],
        tokenizer=prepare(DataConfig()).folder / "tokenizer.json",
        n_tokens=2 * N_TOKENS,
    )


def train_config(width: int, l0: int) -> TrainConfig:
    """Return what the model of a cell is trained with."""
    return TrainConfig(
        model=ModelConfig(n_layers=2, d_model=width, n_ctx=128, positions=Positions.concatenated),
        data=data_config(),
        sparsity=SparsityConfig(l0=l0),
        n_tokens=N_TOKENS,
        evaluate_every=0,
    )


def plan(widths: list[int], l0s: list[int]) -> str:
    """Return what will be run, and about how long it takes on one core."""
    lines, total = [], 0.0
    for width in widths:
        n_searches = len(SEEDED) * N_SEEDS + 6  # about half of the other tasks are known
        minutes = (N_TOKENS / TOKENS_A_SECOND[width] + n_searches * SECONDS_A_TASK[width]) / 60
        total += minutes * len(l0s)
        lines += [
            f"width {width}, L0 {l0:,}: {N_TOKENS:,} tokens, about {n_searches} searches, {minutes:.0f} minutes" for l0 in l0s
        ]
    return "\n".join([*lines, f"{N_TOKENS:,} tokens each; in all {total / 60:.1f} hours of one core"])


def trained(run: Path, config: TrainConfig, console: Console) -> dict[str, Any]:
    """Train the model of a cell, or go on with it, and return what it became."""
    pretrain(config, run, resume=True, console=console)
    model = read_json(run / "model.json")
    dataset, subject = prepare(config.data), subject_of(run, None)
    batches = Loader(dataset.train, batch_size=32, n_ctx=config.model.n_ctx, seed=0)
    kurtosis = measure_kurtosis(subject.model, batches, n_tokens=KURTOSIS_TOKENS)
    return {
        "validation_loss": model["validation_loss"],
        "n_nonzero": model["n_nonzero"],
        "kurtosis": kurtosis.pooled,
        "known": known_tasks(subject),
    }


def quick(seed: int) -> ExtractConfig:
    """Return the quick budget, the searches for nonsense left out."""
    return ExtractConfig(card=CardConfig(n_controls=0), n_held_out_pairs=64, seed=seed)


def ranked(subject: Subject, task: str, seed: int) -> dict[str, Any]:
    """Return how many of the top-ranked nodes reach the target, and the model's edges among them."""
    try:
        nodes = prepare_search(subject.model, TASKS[task], subject.tokenizer, subject.means(), config=quick(seed)).nodes()
    except UserError as error:
        return {"error": str(error)}
    if nodes is None:
        return {"error": "no set of nodes reaches the target"}
    kept = channels_of(nodes.kept, subject.model.config)
    return {"n_nodes": int(nodes.kept.sum()), "n_edges": len(circuit_edges(subject.model, kept))}


def extracted(subject: Subject, task: str, seed: int) -> dict[str, Any]:
    """Extract one circuit and return its numbers."""
    try:
        return numbers(extract(subject.model, TASKS[task], subject.tokenizer, subject.means(), config=quick(seed)))
    except UserError as error:
        return {"error": str(error)}


WORK = {"nodes": ranked, "circuit": extracted}


def run_cell(width: int, l0: int, cells: Cells, console: Console, *, kinds: Sequence[str]) -> None:
    """Train one model and look for nodes, and for circuits where they are among the kinds."""
    run = Path("runs/grid") / f"{width}-{l0}"
    model = cells.run(partial(trained, run, train_config(width, l0), console), kind="model", width=width, l0=l0)
    tasks = [(task, seed) for seed in range(N_SEEDS) for task in model["known"] if seed == 0 or task in SEEDED]
    keys = [{"kind": kind, "width": width, "l0": l0, "task": task, "seed": seed} for kind in kinds for task, seed in tasks]
    if missing := [key for key in keys if not cells.select(**key)]:
        if not (run / "model").exists():  # numbers travel without their models
            trained(run, train_config(width, l0), console)
        subject = subject_of(run, None)
        for key in missing:
            cells.run(partial(WORK[key["kind"]], subject, key["task"], key["seed"]), **key)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS, choices=WIDTHS)
    parser.add_argument("--l0", nargs="+", type=int, default=L0S)
    parser.add_argument("--circuits", action="store_true", help="extract whole circuits, too")
    parser.add_argument("--plan", action="store_true", help="print what would be run, and stop")
    parser.add_argument("--out", type=Path, default=RESULTS / "grid.jsonl")
    options = parser.parse_args()
    print(plan(options.widths, options.l0), flush=True)
    if not options.plan:
        cells, console = Cells(options.out), Console()
        for width, l0 in product(options.widths, options.l0):  # none is refused after hours of others
            check_budgets(train_config(width, l0))
        for width, l0 in product(options.widths, options.l0):
            run_cell(width, l0, cells, console, kinds=["nodes", "circuit"] if options.circuits else ["nodes"])


if __name__ == "__main__":
    main()
