"""What a step of bridge training costs, against one step of its sparse and one of its dense model.

    python -m experiments.bench_bridge_step --threads 2

Medians over repeats, all in turn in one process; batch 32 x 128 over 2,048 ids. The dense model's own step is a pretraining
step of the same code at full density.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch

from experiments.bench_train_step import D_VOCAB
from sparse_circuits.bridges import BridgeConfig
from sparse_circuits.bridges.step import BridgeStep
from sparse_circuits.bridges.train import new_bridge
from sparse_circuits.kernels.bench import time_in_turn
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.run import Precision, choose_autocast
from sparse_circuits.sparsity import Anneal, SparsityConfig
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.step import PretrainStep

N_LAYERS = 4
PLACES = (None, 2, 1)


def build(kind: str, n_places: int | None, *, d_model: int, device: torch.device) -> Callable[[], object]:
    """Return one step of a kind on random tokens."""
    torch.manual_seed(0)
    sparse, dense = (ModelConfig(n_layers=N_LAYERS, d_model=d_model, abs_topk=share) for share in (0.25, 1.0))
    config = TrainConfig(
        model=dense if kind == "dense" else sparse,
        sparsity=SparsityConfig(anneal=Anneal.none, l0_fraction=1.0 if kind == "dense" else 1 / 16),
    )
    autocast = choose_autocast(Precision.auto, device)
    model = Transformer(config.model, d_vocab=D_VOCAB).to(device)
    if kind == "bridge":
        other = Transformer(dense, d_vocab=D_VOCAB).to(device).eval().requires_grad_(False)
        weights = BridgeConfig(n_places=n_places)
        step = BridgeStep(model, other, new_bridge(model, other, weights).to(device), config, weights, autocast=autocast)
    else:
        step = PretrainStep(model, config, autocast=autocast)
    tokens = torch.randint(D_VOCAB, (config.batch_size, config.model.n_ctx + 1), device=device)
    return lambda: step(tokens, index=config.n_steps // 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--d-model", type=int, default=128)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    kinds = [("sparse", None), ("dense", None), *(("bridge", places) for places in PLACES)]
    steps = {kind: build(*kind, d_model=options.d_model, device=device) for kind in kinds}
    seconds = {kind: timing.median for kind, timing in time_in_turn(steps, device, repeats=options.repeats).items()}
    both = seconds["sparse", None] + seconds["dense", None]
    for (kind, places), each in seconds.items():
        said = f"{kind}, {'all' if places is None else places} places" if kind == "bridge" else kind
        print(json.dumps({"step": said, "ms": round(1000 * each, 1), "of_both": round(each / both, 2)}))


if __name__ == "__main__":
    main()
