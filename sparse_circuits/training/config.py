"""What a pretraining run is told (Gao et al. 2025, appendix A.2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from sparse_circuits.data import DataConfig
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.kernels.backend import Backend
from sparse_circuits.model import ModelConfig
from sparse_circuits.run import Device, Precision
from sparse_circuits.sparsity import SparsityConfig
from sparse_circuits.training.track import Tracker


class GradientRule(Enum):
    """What is done to the gradient's root mean square over all parameters together."""

    divide = "divide"
    clip = "clip"


@dataclass(frozen=True)
class OptimizerConfig:
    lr: float = 2.56e-2
    """Peak learning rate of AdamW; the best of three at width 128 (the released script: 1.28e-2 at width 1024)."""
    beta1: float = 0.9
    """Decay of the gradient's running mean."""
    beta2: float = 0.95
    """Decay of the gradient's running mean square."""
    eps: float = 0.1
    """Added to the root mean square; unusually large, and it matters (figures 27 to 30)."""
    weight_decay: float = 0.1
    """Decoupled decay; not on biases, gains, sinks and the bigram table."""
    gradient: GradientRule = GradientRule.divide
    """divide the gradient by its RMS (the released script), or clip its RMS to 1 (the paper)."""
    warmup: float = 0.01
    """Share of training over which the learning rate rises linearly."""
    l0_factor: bool = True
    """Multiply the learning rate by sqrt(L0_target / L0_now) while L0 anneals: the "sharkfin" (figures 11 and 25)."""

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.eps <= 0:
            raise UserError(f"optimizer.lr = {self.lr} and optimizer.eps = {self.eps} must both be above 0.")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"optimizer.{name} is {getattr(self, name)}: give a decay from 0 to below 1.")
        if self.weight_decay < 0:
            raise UserError(f"optimizer.weight_decay is {self.weight_decay}: give 0 or more.")
        if not 0 <= self.warmup < 1:
            raise UserError(f"optimizer.warmup is {self.warmup}: give a share of training, from 0 to below 1.")


@dataclass(frozen=True)
class TrainConfig:
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model's shape."""
    data: DataConfig = field(default_factory=DataConfig)
    """The corpora and the tokenizer."""
    sparsity: SparsityConfig = field(default_factory=SparsityConfig)
    """How sparse the weights become."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    n_tokens: int = 20_000_000
    """Training tokens."""
    batch_size: int = 32
    """Sequences of n_ctx tokens in one optimizer step, over all processes."""
    accumulation: int = 1
    """Parts into which each process cuts its batch, one backward pass each, to save memory."""
    evaluate_every: int = 500
    """Steps between evaluations; 0: only at the end."""
    evaluation_batches: int = 16
    """Validation batches of one evaluation."""
    checkpoint_every: int = 500
    """Steps between checkpoints; 0: only at the end and when interrupted."""
    keep_checkpoints: int = 2
    """Newest checkpoints that are kept."""
    log_every: int = 10
    """Steps between lines of metrics.jsonl."""
    seed: int = 0
    """Seed of the weights and of the order of the data."""
    device: Device = Device.auto
    """Where to train."""
    precision: Precision = Precision.auto
    """Autocast's dtype for the forward pass; auto: bf16 where the processor multiplies it natively."""
    backend: Backend = Backend.auto
    """Which implementation of the kernels runs; auto: triton on CUDA and ROCm devices, cpu on a CPU."""
    track: Tracker = Tracker.jsonl
    """Where metrics go beside metrics.jsonl and the progress line."""

    def __post_init__(self) -> None:
        check_counts(
            vars(self), "n_tokens", "batch_size", "accumulation", "evaluation_batches", "keep_checkpoints", "log_every"
        )
        for name in ("evaluate_every", "checkpoint_every"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}: give 0 or more steps.")
        if self.batch_size % self.accumulation:
            raise UserError(
                f"accumulation = {self.accumulation} does not divide batch_size = {self.batch_size}: choose a divisor."
            )
        if self.n_steps < 1:
            raise UserError(
                f"n_tokens = {self.n_tokens:,} is below one step of {self.tokens_per_step:,}: raise it, or lower batch_size."
            )

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one optimizer step."""
        return self.batch_size * self.model.n_ctx

    @property
    def n_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return self.n_tokens // self.tokens_per_step
