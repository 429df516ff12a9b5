"""A small dense base model of a language that is given sentence by sentence."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.diffs.lessons import filled_up
from sparse_circuits.model import ModelConfig, Positions, Transformer
from sparse_circuits.sparsity import Anneal, SparsityConfig
from sparse_circuits.training.config import OptimizerConfig, TrainConfig
from sparse_circuits.training.loop import Track, fit
from sparse_circuits.training.step import PretrainStep

SHAPE = ModelConfig(
    n_layers=3, d_model=96, d_head=24, d_mlp=256, n_ctx=24, positions=Positions.added, abs_topk=1.0, bigram=False
)


def train_base(
    sentence: Callable[[random.Random], Sequence[int]],
    *,
    d_vocab: int,
    seed: int,
    n_steps: int = 2500,
    batch_size: int = 128,
    shape: ModelConfig = SHAPE,
    sparsity: SparsityConfig | None = None,
    track: Track | None = None,
) -> Transformer:
    """Pretrain a model of a small language, one sentence a row.

    Args:
        sentence: draws the token ids of one; what fills up a row is its last token again.
        d_vocab: tokens of the language.
        seed: of weights and text.
        n_steps, batch_size: steps, and sentences of a step.
        shape: of the model; small and dense if not said otherwise.
        sparsity: how sparse its weights become; None: not at all.
        track: where metrics go, if anywhere.
    """
    torch.manual_seed(seed)
    config = TrainConfig(
        model=shape,
        sparsity=sparsity or SparsityConfig(l0_fraction=1.0, anneal=Anneal.none),
        optimizer=OptimizerConfig(lr=6.4e-3),
        n_tokens=n_steps * batch_size * shape.n_ctx,
        batch_size=batch_size,
    )
    model = Transformer(shape, d_vocab=d_vocab)
    fit(PretrainStep(model, config), _Sentences(sentence, batch_size, seed), n_steps=n_steps, track=track)
    return model.eval().requires_grad_(False)


class _Sentences:
    def __init__(self, sentence: Callable[[random.Random], Sequence[int]], batch_size: int, seed: int) -> None:
        self.sentence, self.batch_size, self.random = sentence, batch_size, random.Random(f"text {seed}")

    def next_batch(self) -> Int[Tensor, "batch pos_plus_one"]:
        return filled_up([self.sentence(self.random) for _ in range(self.batch_size)])
