"""A device that computes something else is refused before anything is trained on it."""

from collections.abc import Callable

import pytest
import torch

from sparse_circuits.errors import UserError
from sparse_circuits.kernels.backend import Backend, use_backend
from sparse_circuits.model import ModelConfig, Positions, Transformer
from sparse_circuits.training.device_check import check_device

SHAPE = ModelConfig(n_layers=1, d_model=16, d_head=4, n_ctx=8)
MEDIUM = ModelConfig(n_layers=6, d_model=512, n_ctx=128, positions=Positions.concatenated)

Forward = Callable[..., torch.Tensor]


def on_the_second_device(change: Callable[[Forward], Forward], monkeypatch: pytest.MonkeyPatch) -> None:
    """From a model's second pass on, compute by a changed forward pass."""
    forward, calls = Transformer.forward, []

    def counted(self: Transformer, tokens: torch.Tensor, **rest: object) -> torch.Tensor:
        calls.append(1)
        return (forward if len(calls) < 2 else change(forward))(self, tokens, **rest)

    monkeypatch.setattr(Transformer, "forward", counted)


def test_a_device_that_agrees_passes_and_one_that_does_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_device(Transformer(SHAPE, d_vocab=20), torch.device("cpu"))
    on_the_second_device(lambda forward: lambda *inputs, **rest: forward(*inputs, **rest).roll(1, dims=-1), monkeypatch)
    with pytest.raises(UserError, match=r"On cpu this model's logits are \d.* away .*: use device=cpu"):
        check_device(Transformer(SHAPE, d_vocab=20), torch.device("cpu"))


def test_a_device_that_rounds_otherwise_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a model of this size a rounding lets other channels survive AbsTopK, which moves logits by half of the largest."""
    on_the_second_device(lambda forward: use_backend(Backend.reference)(forward), monkeypatch)
    model = Transformer(MEDIUM, d_vocab=64)
    random_state = torch.get_rng_state()
    check_device(model, torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), random_state)


def test_logits_that_are_no_numbers_are_refused() -> None:
    model = Transformer(SHAPE, d_vocab=20)
    with torch.no_grad():
        model.embed.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="away from those on the CPU"):
        check_device(model, torch.device("cpu"))
