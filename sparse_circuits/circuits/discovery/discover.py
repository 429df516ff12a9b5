"""Learning what a task needs: masks over nodes, then over the edges among the kept nodes.

Source: Gao et al. 2025, appendix A.5. One parameter m per unit (a node; in the second stage an edge), the same at every token
and prompt. A unit with m > 0 is on; of the others those stand at their mean that the objective removes in this step
(objective.py).
1. m starts at init_noise_bias + init_noise_scale N(0, 1): every unit is on.
2. Objective: task loss + k_coef x number of units on; the gradient of the step at 0 is a sigmoid's.
3. AdamW with gradient clipping, warm-up and a linear decay to 0; after every step m is clamped to [-1, 1].
The model itself is never changed. Masks on edges are ours: the paper leaves them open.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.discovery.masks import MaskConfig
from sparse_circuits.circuits.discovery.objective import choose_removed, seen_mask
from sparse_circuits.circuits.discovery.units import Units
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.norms import FrozenNorms, Norms
from sparse_circuits.circuits.sampler import PairSampler
from sparse_circuits.kernels.mean_ablate import surrogate_step
from sparse_circuits.model import Transformer
from sparse_circuits.model.taps import Taps
from sparse_circuits.run import Autocast
from sparse_circuits.tasks import PairBatch, task_losses
from sparse_circuits.training.loop import Metrics, fit


@torch.enable_grad()
def learn_mask(
    model: Transformer,
    pairs: PairBatch,
    units: Units,
    *,
    config: MaskConfig,
    n_steps: int,
    tie: Int[Tensor, " unit"] | None = None,
    unpruned: FrozenNorms | None = None,
    seed: int = 0,
    autocast: Autocast = nullcontext,
) -> Float[Tensor, " unit"]:
    """Return the learned mask parameters: units above 0 are the circuit that training ended with.

    Args:
        model: the model to prune.
        pairs: the pool of train pairs.
        units: what to learn masks for.
        config: how to learn.
        n_steps: how long.
        tie: for every unit the number of its parameter; None: each its own.
        unpruned: what norms divide by in the unpruned model, on all pairs of the pool; None: taken here, unless norms are free.
        seed: of the initial mask, of the order of the pairs, and of what steps remove.
        autocast: makes the context of the forward passes.
    """
    device = model.embed.weight.device
    tie = torch.arange(units.n_units, device=device) if tie is None else tie
    generator = torch.Generator().manual_seed(seed)

    if unpruned is None and config.norms is not Norms.free:
        unpruned = FrozenNorms(model, pairs, autocast=autocast)

    def loss_of(taps: Taps, numbers: Int[Tensor, " n_pairs"], *, is_frozen: bool) -> Float[Tensor, ""]:
        with autocast():
            margin = answer_margins(model, pairs.select(numbers), taps=unpruned.of(numbers).under(taps) if is_frozen else taps)
        return task_losses(margin).mean()

    def task_loss(mask: Float[Tensor, " unit"], numbers: Int[Tensor, " n_pairs"]) -> Float[Tensor, ""]:
        kept, is_frozen = mask.detach() > 0, _choose_norms(config.norms, generator)
        loss = partial(loss_of, numbers=numbers.to(device), is_frozen=is_frozen)
        removed = choose_removed(config.objective, kept, lambda share: loss(units.shared(share)), generator=generator)
        return loss(units.masked(seen_mask(mask, removed)))

    step = MaskStep(initial_mask(int(tie.max()) + 1, config, seed=seed).to(device), task_loss, config, n_steps, tie)
    fit(step, PairSampler(pairs.n_pairs, n_pairs=config.n_pairs, seed=seed), n_steps=n_steps)
    return step.mask.detach()[tie]


def _choose_norms(norms: Norms, generator: torch.Generator) -> bool:
    """Return whether a step's norms divide as in the unpruned run."""
    match norms:
        case Norms.free:
            return False
        case Norms.frozen:
            return True
        case Norms.both:
            return torch.rand((), generator=generator).item() < 0.5
    raise AssertionError(norms)


def initial_mask(n_parameters: int, config: MaskConfig, *, seed: int) -> Float[Tensor, " parameter"]:
    """Return the parameters that mask learning starts from."""
    noise = torch.randn(n_parameters, generator=torch.Generator().manual_seed(seed))
    return (config.init_noise_bias + config.init_noise_scale * noise).clamp(-1, 1)


TaskLoss = Callable[[Float[Tensor, " unit"], Any], Float[Tensor, ""]]
"""The task loss of a mask over units on a batch, of pairs or of whatever the task is, with a gradient to the mask."""


class MaskStep:
    """The step that `fit` takes when it learns a mask.

    Args:
        mask: the parameters, learned in place.
        task_loss: of the units' masks.
        config: how to learn.
        n_steps: over which the learning rate falls.
        tie: for every unit the number of its parameter.
    """

    def __init__(
        self,
        mask: Float[Tensor, " parameter"],
        task_loss: TaskLoss,
        config: MaskConfig,
        n_steps: int,
        tie: Int[Tensor, " unit"],
    ) -> None:
        self.mask, self.task_loss, self.config = mask.requires_grad_(), task_loss, config
        self.n_steps, self.tie = n_steps, tie
        betas = (config.beta1, config.beta2)
        self.optimizer = torch.optim.AdamW([self.mask], lr=config.lr, betas=betas, weight_decay=config.weight_decay)

    def __call__(self, batch: Any, *, index: int) -> Metrics:
        """Take one step and return the batch's task loss and the number of units that are on."""
        units = self.mask[self.tie]
        loss = self.task_loss(units, batch)
        n_units = surrogate_step(units, temperature=self.config.heaviside_temp).sum()
        # Of the mask alone: the model's own weights get no gradient.
        (self.mask.grad,) = torch.autograd.grad(loss + self.config.k_coef * n_units, [self.mask])
        torch.nn.utils.clip_grad_norm_([self.mask], self.config.max_gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * schedule((index + 1) / (self.n_steps + 1), warmup=self.config.warmup)
        self.optimizer.step()
        with torch.no_grad():
            self.mask.clamp_(-1, 1)
        return {"loss": loss.detach(), "n_units": n_units.detach()}


def schedule(progress: float, *, warmup: float) -> float:
    """Return the share of the peak learning rate: up linearly over the warm-up, then down linearly to 0 at progress 1."""
    return progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)
