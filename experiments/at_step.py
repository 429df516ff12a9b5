"""The model of a run as it was at a step whose checkpoint was kept, as a folder that every verb takes.

    python -m experiments.at_step RUN STEP OUT

What knows most tasks need not be the end of a run (experiments/README.md).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from sparse_circuits.data import Tokenizer
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.model.store import read_tensors
from sparse_circuits.plain import from_plain
from sparse_circuits.run import read_json
from sparse_circuits.training.export import export_model, load_trained


@torch.no_grad()
def at_step(run: Path, step: int, tokenizer: Tokenizer) -> Transformer:
    """Return the model that a run had at a step whose checkpoint it kept."""
    config = from_plain(ModelConfig, read_json(run / "run.json")["config"]["model"])
    model = Transformer(config, d_vocab=tokenizer.d_vocab).requires_grad_(False)
    tensors, _ = read_tensors(run / "checkpoints" / f"step_{step:08d}.safetensors", kind="checkpoint")
    for name, weight in model.named_parameters():
        weight.copy_(tensors[f"step:model:{name}"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run that has ended")
    parser.add_argument("step", type=int)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    tokenizer = load_trained(options.run).tokenizer
    print(export_model(at_step(options.run, options.step, tokenizer), tokenizer, options.out))


if __name__ == "__main__":
    main()
