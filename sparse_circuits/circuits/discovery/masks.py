"""How masks are learned: what the user says of it."""

from __future__ import annotations

from dataclasses import dataclass

from sparse_circuits.circuits.ablate import Ablation
from sparse_circuits.circuits.discovery.objective import Objective
from sparse_circuits.circuits.norms import Norms
from sparse_circuits.errors import UserError


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
    n_steps: int = 100
    """Steps of mask learning on nodes."""
    n_edge_steps: int = 50
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
