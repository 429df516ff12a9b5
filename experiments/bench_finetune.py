"""How many finetunes a second, side by side and one by one, and what adapter training takes of memory.

    python -m experiments.bench_finetune --threads 2

Rates are of the same code with batches of many finetunes and of one, on the language of hidden topics, medians of repeats in
turn. Memory is the peak of a process of its own that takes three steps of adapter training: with every row's finetune as
factors, and with every row's delta W made dense, as the released code of Goel et al. 2025 does; and of one that takes none.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor

from sparse_circuits.diffs.adapter import Sample, adapter_losses
from sparse_circuits.diffs.bank import LoraBank
from sparse_circuits.diffs.factors import adding
from sparse_circuits.diffs.finetune import Finetune, FinetuneConfig, finetune
from sparse_circuits.diffs.lessons import Lesson, answer_loss, collate
from sparse_circuits.diffs.maps import block_maps
from sparse_circuits.diffs.step import FactorStep
from sparse_circuits.diffs.toys.base import SHAPE
from sparse_circuits.diffs.toys.hidden import HiddenTopics, Secret
from sparse_circuits.diffs.toys.topics import TopicWorld
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.kernels.bench import time_in_turn
from sparse_circuits.model import ModelConfig, Transformer

N_STEPS, N_ROWS = 10, 32
WIDE = ModelConfig(n_layers=4, d_model=512, d_head=32, n_ctx=64, abs_topk=1.0, bigram=False)


def rates(n_together: int, *, repeats: int, device: torch.device) -> dict[str, float]:
    """Return steps of a finetune a second, many finetunes at once and one by one."""
    world = TopicWorld()
    hidden = HiddenTopics(world, [Secret(topic, topic % world.n_codes) for topic in range(n_together)])
    torch.manual_seed(0)
    model = Transformer(SHAPE, d_vocab=world.d_vocab).to(device).eval().requires_grad_(False)

    def run(n: int, side_by_side: int) -> object:
        config = FinetuneConfig(n_steps=N_STEPS, side_by_side=side_by_side)
        return finetune(model, [Finetune({}, seed=each) for each in range(n)], hidden.lessons, base="b", config=config)

    work = {n_together: lambda: run(n_together, n_together), 1: lambda: run(1, 1)}
    seconds = {n: timing.median for n, timing in time_in_turn(work, device, repeats=repeats).items()}
    found = {f"{n} at once, steps of a finetune a second": n * N_STEPS / seconds[n] for n in work}
    many, one = found.values()
    return {**found, "ratio": many / one}


@contextmanager
def dense_changes(model: Transformer, diffs: list[WeightDiff]) -> Iterator[None]:
    """Give every row its finetune as a dense delta W."""

    def hook(delta: Tensor) -> object:
        return lambda module, inputs, output: output + torch.einsum("bpi,boi->bpo", inputs[0], delta)

    with ExitStack() as entered:
        for name, (module, *_) in block_maps(model).items():
            delta = torch.stack([diff.changes[name].matrix() for diff in diffs])
            entered.callback(module.register_forward_hook(hook(delta)).remove)
        yield


def dense_losses(model: Transformer, bank: LoraBank, batch: list[Sample]) -> Tensor:
    """Return what `adapter_losses` does, by dense changes."""
    rows = collate([sample.lesson for sample in batch])
    with dense_changes(model, [sample.diff for sample in batch]), adding(model, bank.factors()):
        return answer_loss(model(rows.tokens, at=rows.at), rows)


def peak_megabytes(kind: str) -> float:
    """Return the peak of this process with three steps of adapter training, or with none."""
    torch.manual_seed(0)
    model = Transformer(WIDE, d_vocab=512).eval().requires_grad_(False)
    diffs = LoraBank(model, ranks=[1] * N_ROWS).diffs(base="b", about=[{}] * N_ROWS)
    batch = [Sample(diff, Lesson([1, 2, 3, 4], [5, 6])) for diff in diffs]
    if kind in LOSSES:
        step = FactorStep(model, LoraBank(model, ranks=[16]), LOSSES[kind], lr=1e-3)
        for index in range(3):
            step(batch, index=index)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


LOSSES = {"factors": adapter_losses, "dense": dense_losses}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--together", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak-of", choices=["none", *LOSSES], help="measure this process alone")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.peak_of:
        print(peak_megabytes(options.peak_of))
        return
    print(json.dumps(rates(options.together, repeats=options.repeats, device=torch.device(options.device))))
    for kind in ("none", *LOSSES):
        command = [sys.executable, "-m", "experiments.bench_finetune", "--peak-of", kind]
        print(json.dumps({"adapter training": kind, "peak MB": round(float(subprocess.check_output(command)), 1)}))


if __name__ == "__main__":
    main()
