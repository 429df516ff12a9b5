"""Learning which nodes a task needs (Gao et al. 2025, appendix A.5).

One parameter m per node, the same at every token and prompt. A node with m > 0 is on, the others stand at their mean.
1. m starts at init_noise_bias + init_noise_scale N(0, 1): every node is on.
2. Objective: task loss + k_coef x number of nodes on; the gradient of the step at 0 is a sigmoid's.
3. AdamW with gradient clipping, warm-up and a linear decay to 0; after every step m is clamped to [-1, 1].
The model itself is never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.ablate import mask_taps
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import count_nodes
from sparse_circuits.circuits.sampler import PairSampler
from sparse_circuits.errors import UserError
from sparse_circuits.kernels.mean_ablate import surrogate_step
from sparse_circuits.model import Transformer
from sparse_circuits.run import Autocast
from sparse_circuits.tasks import PairBatch, task_losses
from sparse_circuits.training.loop import Metrics, Track, fit


@dataclass(frozen=True)
class MaskConfig:
    n_steps: int = 200
    """Steps of mask learning."""
    n_pairs: int = 32
    """Pairs in one step, twice as many prompts (the paper: 64)."""
    k_coef: float = 1e-3
    """Cost of one node, in nats of task loss (the paper's search centre: 1e-4, for far larger models)."""
    init_noise_bias: float = 0.1
    """Mean of the initial mask parameters."""
    init_noise_scale: float = 1e-2
    """Standard deviation of the initial mask parameters."""
    heaviside_temp: float = 1.0
    """Temperature of the step's surrogate gradient."""
    lr: float = 1e-2
    """Peak learning rate of AdamW (the paper's search centre: 3e-3, for more steps)."""
    weight_decay: float = 1e-3
    """Decoupled decay of the mask parameters."""
    beta1: float = 0.9
    """Decay of the gradient's running mean."""
    beta2: float = 0.95
    """Decay of the gradient's running mean square."""
    warmup: float = 0.05
    """Share of the steps over which the learning rate rises linearly."""
    max_gradient_norm: float = 1.0
    """Gradients longer than this are scaled down to it."""

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_pairs", "heaviside_temp", "lr", "max_gradient_norm"):
            if getattr(self, name) <= 0:
                raise UserError(f"masks.{name} is {getattr(self, name)}: give a number above 0.")
        if self.k_coef < 0 or self.init_noise_scale < 0:
            raise UserError("masks.k_coef and masks.init_noise_scale must not be negative.")
        if not 0 <= self.warmup < 1:
            raise UserError(f"masks.warmup is {self.warmup}: give a share of the steps, from 0 to below 1.")


Objective = Callable[[Float[Tensor, " node"], PairBatch], Float[Tensor, ""]]
"""The task loss of a mask on a batch of pairs, with a gradient to the mask."""


def learn_mask(
    model: Transformer,
    pairs: PairBatch,
    means: Means,
    *,
    config: MaskConfig,
    seed: int = 0,
    autocast: Autocast = nullcontext,
    track: Track | None = None,
) -> Float[Tensor, " node"]:
    """Return the learned mask parameters: nodes above 0 are the circuit that training ended with.

    Args:
        model: the model to prune.
        pairs: the pool of train pairs.
        means: of this model.
        config: how to learn.
        seed: of the initial mask and of the order of the pairs.
        autocast: makes the context of the forward passes.
        track: where loss and node count go after every step.
    """

    def task_loss(mask: Tensor, batch: PairBatch) -> Tensor:
        taps = mask_taps(mask, means, model.config, temperature=config.heaviside_temp)
        with autocast():
            return task_losses(answer_margins(model, batch, taps=taps)).mean()

    step = MaskStep(initial_mask(model, config, seed=seed), task_loss, config)
    fit(step, PairSampler(pairs, n_pairs=config.n_pairs, seed=seed), n_steps=config.n_steps, track=track)
    return step.mask.detach()


def initial_mask(model: Transformer, config: MaskConfig, *, seed: int) -> Float[Tensor, " node"]:
    """Return the parameters that mask learning starts from."""
    noise = torch.randn(count_nodes(model.config), generator=torch.Generator().manual_seed(seed))
    mask = (config.init_noise_bias + config.init_noise_scale * noise).clamp(-1, 1)
    return mask.to(model.embed.weight.device)


class MaskStep:
    """The step that `fit` takes when it learns a mask."""

    def __init__(self, mask: Float[Tensor, " node"], task_loss: Objective, config: MaskConfig) -> None:
        self.mask, self.task_loss, self.config = mask.requires_grad_(), task_loss, config
        betas = (config.beta1, config.beta2)
        self.optimizer = torch.optim.AdamW([self.mask], lr=config.lr, betas=betas, weight_decay=config.weight_decay)

    def __call__(self, batch: PairBatch, *, index: int) -> Metrics:
        """Take one step and return the batch's task loss and the number of nodes that are on."""
        loss = self.task_loss(self.mask, batch)
        n_nodes = surrogate_step(self.mask, temperature=self.config.heaviside_temp).sum()
        # Of the mask alone: the model's own weights get no gradient.
        (self.mask.grad,) = torch.autograd.grad(loss + self.config.k_coef * n_nodes, [self.mask])
        torch.nn.utils.clip_grad_norm_([self.mask], self.config.max_gradient_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.lr * schedule((index + 1) / (self.config.n_steps + 1), warmup=self.config.warmup)
        self.optimizer.step()
        with torch.no_grad():
            self.mask.clamp_(-1, 1)
        return {"loss": loss.detach(), "n_nodes": n_nodes.detach()}


def schedule(progress: float, *, warmup: float) -> float:
    """Return the share of the peak learning rate: up linearly over the warm-up, then down linearly to 0 at progress 1."""
    return progress / warmup if progress < warmup else (1 - progress) / (1 - warmup)
