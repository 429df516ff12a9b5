"""One pretraining step: forward, backward, one scale for the gradient, AdamW, projection to the budget of nonzeros."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.run import Autocast, world_size
from sparse_circuits.sparsity import density, sparse_budgets
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.optimizer import build_optimizer, gradient_divisor, gradient_rms, step_and_project_
from sparse_circuits.training.schedule import learning_rate


class Diverged(UserError):
    """The loss or a gradient is no number any more."""


class Pace(NamedTuple):
    """What the schedules say of one step."""

    density: float
    """How far annealing is from its target, 1 (dense) to 0 (at the target)."""
    l0: int
    """Nonzeros that the step leaves."""
    lr: float
    """Learning rate."""


class NextToken(nn.Module):
    """The pretraining loss as a module, so that DistributedDataParallel can average its gradients."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Int[Tensor, "batch pos_plus_one"]) -> Float[Tensor, ""]:
        return self.model.loss(tokens[:, :-1], tokens[:, 1:])


class Group(NamedTuple):
    """Parameters whose gradient has one scale."""

    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.AdamW


class PretrainStep:
    """The step that `fit` takes when it pretrains a weight-sparse transformer (Gao et al. 2025, appendix A.2).

    Args:
        model: the model to train, on its device.
        config: the whole run's config.
        autocast: makes the context in which the loss is computed.
        beside: what is trained with the model, dense, the scale of its gradient its own.
        loss: from a batch to what is minimised; None: the next-token loss.
    """

    def __init__(
        self,
        model: Transformer,
        config: TrainConfig,
        *,
        autocast: Autocast = nullcontext,
        beside: nn.Module | None = None,
        loss: nn.Module | None = None,
    ) -> None:
        self.model, self.config, self.autocast, self.beside = model, config, autocast, beside
        self.budgets = sparse_budgets(model, config.sparsity)
        named = [dict(model.named_parameters())]
        if beside is not None:
            named.append({f"beside.{name}": p for name, p in beside.named_parameters()})
        self.groups = [Group(parameters, build_optimizer(parameters, config.optimizer)) for parameters in named]
        loss = loss or NextToken(model)
        self.loss = DistributedDataParallel(loss) if world_size() > 1 else loss
        self.size = sum(budget.size for budget in self.budgets.values())
        self.target = sum(budget.target for budget in self.budgets.values())

    def __call__(self, batch: Int[Tensor, "batch pos_plus_one"], *, index: int) -> dict[str, float | Tensor]:
        """Take step `index` and return loss, L0, learning rate and gradient RMS."""
        remaining, l0, lr = self.pace(index)
        loss = self.backward(batch)
        sizes = [gradient_rms(p.grad for p in group.parameters.values()) for group in self.groups]
        for rms, group in zip(sizes, self.groups, strict=True):
            refuse_to_diverge(loss, rms, index, parameters=group.parameters)
        for rms, group in zip(sizes, self.groups, strict=True):
            divisor = gradient_divisor(rms, self.config.optimizer.gradient)
            step_and_project_(group.optimizer, group.parameters, self.budgets, lr=lr, divisor=divisor, density=remaining)
            group.optimizer.zero_grad(set_to_none=True)
        return {"loss": loss, "l0": l0, "lr": lr, "gradient_rms": sizes[0]}

    @property
    def optimizer(self) -> torch.optim.AdamW:
        """The model's."""
        return self.groups[0].optimizer

    def pace(self, index: int) -> Pace:
        """Return what the schedules say of step `index`."""
        progress = (index + 1) / self.config.n_steps
        remaining = density(progress, self.config.sparsity, target_share=self.target / self.size)
        l0 = sum(budget.at(remaining) for budget in self.budgets.values())
        lr = learning_rate(index / self.config.n_steps, self.config.optimizer, l0_ratio=self.target / l0)
        return Pace(remaining, l0, lr)

    def backward(self, batch: Int[Tensor, "batch pos_plus_one"], *, averaged: bool = True) -> Float[Tensor, ""]:
        """Accumulate the gradient of the batch's mean loss, part by part, and return that loss.

        Args:
            batch: this process's sequences.
            averaged: whether the gradient is averaged over all processes, or left as this one's; the loss always is.
        """
        parts = batch.to(self.model.embed.weight.device).chunk(self.config.accumulation)
        total = torch.zeros((), device=self.model.embed.weight.device)
        for number, part in enumerate(parts, 1):
            with self._synchronised(averaged and number == len(parts)):
                with self.autocast():
                    loss = self.loss(part) * (len(part) / len(batch))
                loss.backward()
            total += loss.detach()
        if world_size() > 1:
            torch.distributed.all_reduce(total)
            total /= world_size()
        return total

    def _synchronised(self, last: bool) -> AbstractContextManager[None]:
        return nullcontext() if last or world_size() == 1 else self.loss.no_sync()

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold of this step: weights and Adam's moments, by name."""
        held = {f"buffer:{name}": value for name, value in self._buffers()}
        for parameters, optimizer in self.groups:
            for name, p in parameters.items():
                held[f"model:{name}"] = p.detach()
                held |= {f"{key}:{name}": value for key, value in optimizer.state.get(p, {}).items()}
        return held

    @torch.no_grad()
    def load_tensors(self, held: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        for name, value in self._buffers():
            value.copy_(held[f"buffer:{name}"])
        for parameters, optimizer in self.groups:
            for name, p in parameters.items():
                p.copy_(held[f"model:{name}"])
                for key in ("step", "exp_avg", "exp_avg_sq"):
                    optimizer.state[p][key] = held[f"{key}:{name}"].to(p.device)

    def _buffers(self) -> list[tuple[str, Tensor]]:
        return [] if self.beside is None else list(self.beside.named_buffers())


def refuse_to_diverge(loss: Float[Tensor, ""], rms: Float[Tensor, ""], index: int, *, parameters: Mapping[str, Tensor]) -> None:
    """Stop before a step that would spoil the weights.

    Raises:
        Diverged: the loss or the gradient's RMS is not finite; the sentence names the largest gradients.
    """
    if torch.isfinite(loss) and torch.isfinite(rms):
        return
    sizes = {name: float(p.grad.abs().max()) for name, p in parameters.items()}
    worst = sorted(sizes, key=lambda name: -sizes[name] if sizes[name] == sizes[name] else float("-inf"))[:3]
    raise Diverged(
        f"The loss became {loss.item()} at step {index + 1}; largest gradients: "
        f"{', '.join(f'{name} {sizes[name]:.3g}' for name in worst)}. Lower optimizer.lr, or look at the data."
    )
