"""The same training through other kernels: the exact ops change no bit, all of them together change next to nothing."""

from collections.abc import Collection

import pytest
import torch

from sparse_circuits.kernels.backend import OPS, Backend, use_backend
from sparse_circuits.model import ModelConfig, Positions, Transformer
from sparse_circuits.sparsity import SparsityConfig
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.step import PretrainStep

D_VOCAB = 32
EXACT = ("abs_topk", "magnitude_prune")
SHAPE = ModelConfig(n_layers=2, d_model=32, d_head=8, n_ctx=16, positions=Positions.concatenated)
SMALLEST = ModelConfig(n_layers=1, d_model=16, d_head=8, d_mlp=24, n_ctx=8)
"""For Triton's interpreter, which takes a second for what the CPU does in a millisecond."""


def train(
    backend: Backend, ops: Collection[str], *, shape: ModelConfig, n_steps: int, batch_size: int = 8
) -> tuple[list[torch.Tensor], list[dict[str, torch.Tensor]]]:
    """Return the loss of every step, and after every step which weights are not zero."""
    torch.manual_seed(0)
    config = TrainConfig(
        model=shape,
        sparsity=SparsityConfig(l0_fraction=0.25),
        n_tokens=n_steps * batch_size * shape.n_ctx,
        batch_size=batch_size,
    )
    step = PretrainStep(Transformer(shape, d_vocab=D_VOCAB), config)
    losses, supports = [], []
    with use_backend(backend, ops=ops):
        for index in range(config.n_steps):
            # Each token decides the next, so that there is something to learn.
            first = torch.randint(D_VOCAB, (batch_size, 1))
            batch = (first + 7 * torch.arange(shape.n_ctx + 1)) % D_VOCAB
            losses.append(step(batch, index=index)["loss"])
            supports.append({name: p.detach() != 0 for name, p in step.model.named_parameters()})
    return losses, supports


def test_the_exact_ops_give_the_same_bits_as_their_references() -> None:
    losses, supports = train(Backend.auto, EXACT, shape=SHAPE, n_steps=50)
    other_losses, other_supports = train(Backend.reference, EXACT, shape=SHAPE, n_steps=50)
    assert torch.equal(torch.stack(losses), torch.stack(other_losses))
    for step, other in zip(supports, other_supports, strict=True):
        assert all(torch.equal(step[name], other[name]) for name in step)
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize(
    ("backend", "shape", "n_steps", "batch_size"),
    [(Backend.reference, SHAPE, 50, 8), pytest.param(Backend.triton, SMALLEST, 2, 2, marks=pytest.mark.slow)],
    ids=["reference", "triton"],
)
def test_all_ops_together_give_nearly_the_same(backend: Backend, shape: ModelConfig, n_steps: int, batch_size: int) -> None:
    size = {"shape": shape, "n_steps": n_steps, "batch_size": batch_size}
    losses, supports = train(Backend.auto, OPS, **size)
    other_losses, other_supports = train(backend, OPS, **size)
    torch.testing.assert_close(torch.stack(other_losses), torch.stack(losses), rtol=1e-3, atol=0)
    kept = shared = 0
    for name, support in supports[-1].items():
        kept += support.sum().item()
        shared += (support & other_supports[-1][name]).sum().item()
    assert shared >= 0.999 * kept
