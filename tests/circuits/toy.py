"""A toy: a small sparse transformer that closes a string with the quote that opened it, trained in seconds."""

import random
from collections.abc import Iterator
from typing import NamedTuple

import torch

from sparse_circuits.circuits import CardConfig, ExtractConfig, MaskConfig, Means, measure_means
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.sparsity import SparsityConfig, project_, sparse_budgets
from sparse_circuits.tasks import Draw, Pair, Task

LETTERS = ("a", "b", "c", "d", "e", "f", "g", "h")
CONFIG = ModelConfig(n_layers=1, d_model=32, n_ctx=24, d_head=8)
EXTRACT = ExtractConfig(
    masks=MaskConfig(n_steps=80, n_pairs=32, n_edge_steps=30),
    card=CardConfig(n_random=20, n_partial=8, n_controls=0),
    n_train_pairs=128,
    n_validation_pairs=48,
    n_held_out_pairs=48,
)


def generate(draw: Draw) -> Pair:
    text = " ".join(draw.choice(LETTERS) for _ in range(draw.number(1, 8)))
    return Pair(f'("{text}', f"('{text}", '")\n', "')\n", ())


TASK = Task("toy_quote", "`(\"a b` closes with `\")`, `('a b` with `')`", generate)


class Toy(NamedTuple):
    model: Transformer
    tokenizer: Tokenizer
    means: Means


class ToyBatches:
    """Strings in either quote, one behind the other."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        rng = random.Random(0)
        text = "".join(line for _, line in zip(range(6000), lines(rng), strict=False))
        self.tokens = torch.tensor(tokenizer.encode(text))

    def next_batch(self) -> torch.Tensor:
        starts = torch.randint(len(self.tokens) - CONFIG.n_ctx - 1, (32, 1))
        return self.tokens[starts + torch.arange(CONFIG.n_ctx + 1)]


def lines(rng: random.Random) -> Iterator[str]:
    while True:
        quote = rng.choice("'\"")
        yield f"({quote}{' '.join(rng.choices(LETTERS, k=rng.randint(1, 8)))}{quote})\n"


def train_toy() -> Toy:
    """Return the toy, the same at every call.

    It is sparse early and trained for long, so that it knows its task whatever the rounding of the machine.
    """
    torch.manual_seed(0)
    rng = random.Random(1)
    tokenizer = Tokenizer.train([line for _, line in zip(range(500), lines(rng), strict=False)], d_vocab=280)
    model = Transformer(CONFIG, d_vocab=tokenizer.d_vocab)
    batches = ToyBatches(tokenizer)
    budgets = sparse_budgets(model, SparsityConfig(l0_fraction=0.15))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-2, weight_decay=0.01)
    n_steps = 600
    for index in range(n_steps):
        tokens = batches.next_batch()
        model.loss(tokens[:, :-1], tokens[:, 1:]).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = 3e-2 * (1 - index / n_steps)
        optimizer.step()
        optimizer.zero_grad()
        project_(model, budgets, density=max(0.0, 1 - index / (0.3 * n_steps)))
    model.eval().requires_grad_(False)
    return Toy(model, tokenizer, measure_means(model, batches, n_tokens=20_000))
