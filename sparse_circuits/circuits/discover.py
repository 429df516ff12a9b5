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
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sparse_circuits.circuits.ablate import Ablation, StandIn, ablation_taps, chain, mask_taps, soft_taps
from sparse_circuits.circuits.cuts import cut_taps, scaled_cuts
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.nodes import by_site, count_nodes, mark
from sparse_circuits.circuits.norms import FrozenNorms, Norms
from sparse_circuits.circuits.objective import Objective, choose_removed, seen_mask
from sparse_circuits.circuits.sampler import PairSampler
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.errors import UserError
from sparse_circuits.kernels.mean_ablate import surrogate_step
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.model.taps import Taps
from sparse_circuits.run import Autocast
from sparse_circuits.tasks import PairBatch, task_losses
from sparse_circuits.training.loop import Metrics, Track, fit


@dataclass(frozen=True)
class MaskConfig:
    objective: Objective = Objective.partial
    """What each step removes of the outside: all of it (full: the paper), a random part, or the part that hurts most."""
    ablation: Ablation = Ablation.mean
    """What removed nodes are replaced by; after resample, sizes and card are measured with means."""
    norms: Norms = Norms.both
    """What RMSNorm divides by: the root mean square of what is left (the paper), that of the unpruned run, or either."""
    tied_qk: bool = False
    """One parameter for a head's query channel and the key channel that it meets."""
    n_steps: int = 200
    """Steps of mask learning on nodes."""
    n_edge_steps: int = 100
    """Steps of mask learning on edges; 0 leaves all edges among the kept nodes to the clean-up."""
    n_pairs: int = 16
    """Pairs in one step, twice as many prompts (the paper: 64)."""
    k_coef: float = 1e-3
    """Cost of one node or edge, in nats of task loss (the paper's search centre: 1e-4, for far larger models)."""
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
        for name in ("k_coef", "init_noise_scale", "n_edge_steps"):
            if getattr(self, name) < 0:
                raise UserError(f"masks.{name} is {getattr(self, name)}: it must not be negative.")
        if not 0 <= self.warmup < 1:
            raise UserError(f"masks.warmup is {self.warmup}: give a share of the steps, from 0 to below 1.")


class Units(NamedTuple):
    """What a mask is over, and how a mask, or shares from 0 to 1, becomes taps."""

    n_units: int
    masked: Callable[[Float[Tensor, " unit"]], Taps]
    """Taps through which a mask receives its gradient."""
    shared: Callable[[Float[Tensor, " unit"]], Taps]
    """Taps that keep a share of every unit."""


def node_units(model: Transformer, stand_in: StandIn, config: MaskConfig) -> Units:
    """Return all nodes of a model as units."""
    return Units(
        count_nodes(model.config),
        lambda mask: mask_taps(mask, stand_in, model.config, temperature=config.heaviside_temp),
        lambda share: soft_taps(share, stand_in, model.config),
    )


def edge_units(
    model: Transformer, stand_in: StandIn, config: MaskConfig, subgraph: Subgraph, *, generator: torch.Generator
) -> Units:
    """Return the edges of a subgraph as units, the nodes outside it removed as the objective says.

    The adversary chooses among edges only: nodes outside are removed as `partial` draws them.
    """
    kept = mark(subgraph.nodes, model.config).to(model.embed.weight.device)

    def taps(share: Float[Tensor, " unit"]) -> Taps:
        cuts = scaled_cuts(subgraph.edges, 1 - share)
        return chain(ablation_taps(kept | ~removed_nodes(), stand_in, model.config), cut_taps(model, cuts, stand_in))

    def removed_nodes() -> Bool[Tensor, " node"]:
        objective = Objective.full if config.objective is Objective.full else Objective.partial
        return choose_removed(objective, kept, lambda share: share.sum(), generator=generator)

    return Units(len(subgraph.edges), lambda mask: taps(surrogate_step(mask, temperature=config.heaviside_temp)), taps)


@torch.enable_grad()
def learn_mask(
    model: Transformer,
    pairs: PairBatch,
    units: Units,
    *,
    config: MaskConfig,
    n_steps: int,
    tie: Int[Tensor, " unit"] | None = None,
    seed: int = 0,
    autocast: Autocast = nullcontext,
    track: Track | None = None,
) -> Float[Tensor, " unit"]:
    """Return the learned mask parameters: units above 0 are the circuit that training ended with.

    Args:
        model: the model to prune.
        pairs: the pool of train pairs.
        units: what to learn masks for.
        config: how to learn.
        n_steps: how long.
        tie: for every unit the number of its parameter; None: each its own.
        seed: of the initial mask, of the order of the pairs, and of what steps remove.
        autocast: makes the context of the forward passes.
        track: where loss and number of units on go after every step.
    """
    device = model.embed.weight.device
    tie = torch.arange(units.n_units, device=device) if tie is None else tie
    generator = torch.Generator().manual_seed(seed)

    def loss_of(taps: Taps, batch: PairBatch, *, is_frozen: bool) -> Float[Tensor, ""]:
        with autocast():
            margin = answer_margins(model, batch, taps=FrozenNorms(model, batch).under(taps) if is_frozen else taps)
        return task_losses(margin).mean()

    def task_loss(mask: Float[Tensor, " unit"], batch: PairBatch) -> Float[Tensor, ""]:
        kept, is_frozen = mask.detach() > 0, _choose_norms(config.norms, generator)
        loss = partial(loss_of, batch=batch, is_frozen=is_frozen)
        removed = choose_removed(config.objective, kept, lambda share: loss(units.shared(share)), generator=generator)
        return loss(units.masked(seen_mask(mask, removed)))

    step = MaskStep(initial_mask(int(tie.max()) + 1, config, seed=seed).to(device), task_loss, config, n_steps, tie)
    fit(step, PairSampler(pairs, n_pairs=config.n_pairs, seed=seed), n_steps=n_steps, track=track)
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


def tied_qk(config: ModelConfig) -> Int[Tensor, " node"]:
    """Return for every node the number of its parameter, a layer's k channels sharing those of its q channels."""
    tie = torch.arange(count_nodes(config))
    sites = by_site(tie, config)
    for layer in range(config.n_layers):
        sites[f"{layer}.attn.k"][:] = sites[f"{layer}.attn.q"]
    return tie.unique(return_inverse=True)[1]


TaskLoss = Callable[[Float[Tensor, " unit"], PairBatch], Float[Tensor, ""]]
"""The task loss of a mask over units on a batch of pairs, with a gradient to the mask."""


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

    def __call__(self, batch: PairBatch, *, index: int) -> Metrics:
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
