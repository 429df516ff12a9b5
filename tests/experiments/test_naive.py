"""The benchmark's baseline computes the same function, so that it is no straw man."""

import torch

from experiments.naive import NaiveStep, NaiveTransformer
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.sparsity import Anneal, SparsityConfig
from sparse_circuits.training.config import OptimizerConfig, TrainConfig
from sparse_circuits.training.step import PretrainStep

CONFIG = ModelConfig(n_layers=2, d_model=32, d_head=8, n_ctx=16)


def both() -> tuple[Transformer, NaiveTransformer]:
    ours = Transformer(CONFIG, d_vocab=50)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    naive = NaiveTransformer(n_layers=2, d_model=32, d_head=8, n_ctx=16, d_vocab=50)
    naive.load(ours.state_dict())
    return ours, naive


def test_equal_logits_with_our_weights() -> None:
    ours, naive = both()
    tokens = torch.randint(50, (4, 16))
    torch.testing.assert_close(ours.double()(tokens), naive.double()(tokens))


def test_equal_weights_after_training_steps() -> None:
    ours, naive = both()
    config = TrainConfig(
        model=CONFIG,
        n_tokens=16 * 4 * 100,
        batch_size=4,
        optimizer=OptimizerConfig(lr=1e-3, warmup=0.0),
        sparsity=SparsityConfig(l0_fraction=0.2, floor=2, anneal=Anneal.none),
    )
    step = PretrainStep(ours, config)
    rival = NaiveStep(naive, l0_fraction=0.2, floor=2, lr=1e-3, autocast=False)
    for index in range(3):
        batch = torch.randint(50, (4, 17))
        rival.optimizer.param_groups[0]["lr"] = rival.optimizer.param_groups[1]["lr"] = 1e-3 * (1 - index / 100)
        loss = rival(batch)
        torch.testing.assert_close(float(step(batch, index=index)["loss"]), loss, rtol=1e-5, atol=1e-5)
    expected = NaiveTransformer(n_layers=2, d_model=32, d_head=8, n_ctx=16, d_vocab=50)
    expected.load(ours.state_dict())
    for (name, p), q in zip(expected.named_parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-4, atol=1e-5, msg=name)
