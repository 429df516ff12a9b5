"""A device that computes something else is refused before anything is trained on it."""

import pytest
import torch

from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.training.device_check import check_device

SHAPE = ModelConfig(n_layers=1, d_model=16, d_head=4, n_ctx=8)


class Astray(Transformer):
    """A model whose second pass anywhere is not its first."""

    calls: list[int] = []  # noqa: RUF012 - shared by copies

    def forward(self, tokens: torch.Tensor, **rest: object) -> torch.Tensor:
        self.calls.append(1)
        logits = super().forward(tokens, **rest)
        return logits if len(self.calls) < 2 else logits.roll(1, dims=-1)


def test_a_device_that_agrees_passes_and_one_that_does_not_is_refused() -> None:
    check_device(Transformer(SHAPE, d_vocab=20), torch.device("cpu"))
    with pytest.raises(UserError, match=r"On cpu this model's logits are \d.* away .*: use device=cpu"):
        check_device(Astray(SHAPE, d_vocab=20), torch.device("cpu"))


def test_logits_that_are_no_numbers_are_refused() -> None:
    model = Transformer(SHAPE, d_vocab=20)
    with torch.no_grad():
        model.embed.weight.fill_(float("nan"))
    with pytest.raises(UserError, match="away from those on the CPU"):
        check_device(model, torch.device("cpu"))
