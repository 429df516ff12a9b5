"""One step of training factors: finetunes, preferences and adapters differ in their losses alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.diffs.bank import LoraBank
from sparse_circuits.model.dense import Dense

Losses = Callable[[Dense, LoraBank, Sequence[Any]], Float[Tensor, " rows"]]
"""From a base, factors on it and a batch to a loss for every row; no row's loss may depend on another finetune's rows."""


class FactorStep:
    """The step that `fit` takes when it trains factors on a frozen base: AdamW on the sum of losses.

    Args:
        model: the base.
        bank: what is trained.
        losses: of a batch.
        lr: learning rate, constant.
        weight_decay: decoupled decay of the factors.
    """

    def __init__(self, model: Dense, bank: LoraBank, losses: Losses, *, lr: float, weight_decay: float = 0.0) -> None:
        self.model, self.bank, self.losses = model, bank, losses
        self.optimizer = torch.optim.AdamW(bank.parameters(), lr=lr, weight_decay=weight_decay, fused=True)

    def __call__(self, batch: Sequence[Any], *, index: int) -> dict[str, Tensor]:
        """Take one step and return the mean loss over rows."""
        losses = self.losses(self.model, self.bank, batch)
        self.optimizer.zero_grad(set_to_none=True)
        losses.sum().backward()
        self.optimizer.step()
        return {"loss": losses.detach().mean()}

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold: factors and Adam's moments."""
        held = {f"bank:{name}": p.detach() for name, p in self.bank.named_parameters()}
        for name, p in self.bank.named_parameters():
            held |= {f"{key}:{name}": value for key, value in self.optimizer.state.get(p, {}).items()}
        return held

    @torch.no_grad()
    def load_tensors(self, held: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        for name, p in self.bank.named_parameters():
            p.copy_(held[f"bank:{name}"])
            self.optimizer.state[p] = {key: held[f"{key}:{name}"].to(p.device) for key in ("step", "exp_avg", "exp_avg_sq")}
