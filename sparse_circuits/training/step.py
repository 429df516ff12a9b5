"""One pretraining step: forward, backward, one scale for the gradient, AdamW, projection to the budget of nonzeros."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.run import Autocast, world_size
from sparse_circuits.sparsity import density, project_, sparse_budgets
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.optimizer import build_optimizer, gradient_divisor, gradient_rms
from sparse_circuits.training.schedule import learning_rate


class Diverged(UserError):
    """The loss or a gradient is no number any more."""


class NextToken(nn.Module):
    """The pretraining loss as a module, so that DistributedDataParallel can average its gradients."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Int[Tensor, "batch pos_plus_one"]) -> Float[Tensor, ""]:
        return self.model.loss(tokens[:, :-1], tokens[:, 1:])


class PretrainStep:
    """The step that `fit` takes when it pretrains a weight-sparse transformer (Gao et al. 2025, appendix A.2).

    Args:
        model: the model to train, on its device.
        config: the whole run's config.
        autocast: makes the context in which the loss is computed.
    """

    def __init__(self, model: Transformer, config: TrainConfig, *, autocast: Autocast = nullcontext) -> None:
        self.model, self.config, self.autocast = model, config, autocast
        self.budgets = sparse_budgets(model, config.sparsity)
        self.optimizer = build_optimizer(model, config.optimizer)
        loss = NextToken(model)
        self.loss = DistributedDataParallel(loss) if world_size() > 1 else loss
        self.size = sum(budget.size for budget in self.budgets.values())
        self.target = sum(budget.target for budget in self.budgets.values())

    def __call__(self, batch: Int[Tensor, "batch pos_plus_one"], *, index: int) -> dict[str, float | Tensor]:
        """Take step `index` and return loss, L0, learning rate and gradient RMS."""
        progress = (index + 1) / self.config.n_steps
        remaining = density(progress, self.config.sparsity, target_share=self.target / self.size)
        l0 = sum(budget.at(remaining) for budget in self.budgets.values())
        lr = learning_rate(index / self.config.n_steps, self.config.optimizer, l0_ratio=self.target / l0)

        loss = self.backward(batch)
        rms = gradient_rms(p.grad for p in self.model.parameters())
        self._refuse_to_diverge(loss, rms, index)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        # The fused kernel divides by this on its way, which saves one pass over all gradients.
        self.optimizer.grad_scale = gradient_divisor(rms, self.config.optimizer.gradient)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        project_(self.model, self.budgets, density=remaining)
        return {"loss": loss, "l0": l0, "lr": lr, "gradient_rms": rms}

    def backward(self, batch: Int[Tensor, "batch pos_plus_one"]) -> Float[Tensor, ""]:
        """Accumulate the gradient of the batch's mean loss, part by part, and return that loss."""
        parts = batch.to(self.model.embed.weight.device).chunk(self.config.accumulation)
        total = torch.zeros((), device=self.model.embed.weight.device)
        for number, part in enumerate(parts, 1):
            with self._synchronised(number == len(parts)):
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

    def _refuse_to_diverge(self, loss: Tensor, rms: Tensor, index: int) -> None:
        if torch.isfinite(loss) and torch.isfinite(rms):
            return
        sizes = {name: float(p.grad.abs().max()) for name, p in self.model.named_parameters()}
        worst = sorted(sizes, key=lambda name: -sizes[name] if sizes[name] == sizes[name] else float("-inf"))[:3]
        raise Diverged(
            f"The loss became {loss.item()} at step {index + 1}; largest gradients: "
            f"{', '.join(f'{name} {sizes[name]:.3g}' for name in worst)}. Lower optimizer.lr, or look at the data."
        )

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold of this step: weights and Adam's moments, by name."""
        names = {p: name for name, p in self.model.named_parameters()}
        held = {f"model:{name}": p.detach() for p, name in names.items()}
        for p, state in self.optimizer.state.items():
            held |= {f"{key}:{names[p]}": value for key, value in state.items()}
        return held

    @torch.no_grad()
    def load_tensors(self, held: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        for name, p in self.model.named_parameters():
            p.copy_(held[f"model:{name}"])
            for key in ("step", "exp_avg", "exp_avg_sq"):
                self.optimizer.state[p][key] = held[f"{key}:{name}"].to(p.device)
