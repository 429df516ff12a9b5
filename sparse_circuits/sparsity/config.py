"""How sparse the weights become, and along which path (Gao et al. 2025, appendix A.2)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sparse_circuits.errors import UserError


class Anneal(Enum):
    """The path of the nonzero count from dense to its target."""

    linear = "linear"
    power_law = "power_law"
    none = "none"


@dataclass(frozen=True)
class SparsityConfig:
    l0_fraction: float = 1 / 16
    """Share of the entries of every weight tensor that stays nonzero; 1: a dense model."""
    l0: int | None = None
    """Nonzeros in all sparse tensors together; overrides l0_fraction when given."""
    expansion: float = 1.0
    """Width over a base model's, e: matrices keep l0_fraction / e^2 of their entries, embeddings and biases l0_fraction / e."""
    floor: int = 4
    """Nonzero weights that every neuron and attention channel keeps at least."""
    anneal: Anneal = Anneal.power_law
    """Path from dense to the target: linear (the paper), power_law (straight in log-log), or none (sparse at once)."""
    anneal_start: float = 0.01
    """Share of training after which annealing begins (the paper: 0; the released script: 0.01)."""
    anneal_end: float = 0.1
    """Share of training at which the target is reached; early is best in short runs (the paper: 0.5, 0.8 when sparsest)."""

    support_every: int = 1
    """Steps between two choices of which entries stay nonzero, once annealing is over; between, only those are trained."""

    def __post_init__(self) -> None:
        if not 0 < self.l0_fraction <= 1:
            raise UserError(f"l0_fraction is {self.l0_fraction}: give a share above 0 and up to 1 (1: dense).")
        if self.l0 is not None and self.l0 < 1:
            raise UserError(f"sparsity.l0 is {self.l0}: give the number of nonzeros to keep, or leave it out.")
        if self.expansion < 1:
            raise UserError(
                f"sparsity.expansion is {self.expansion}: a model is at least as wide as its base, so give 1 or more."
            )
        if self.support_every < 1:
            raise UserError(f"sparsity.support_every is {self.support_every}: give 1 (choose at every step) or more steps.")
        if self.floor < 0:
            raise UserError(f"sparsity.floor is {self.floor}: give 0 or more nonzeros a neuron.")
        if not 0 <= self.anneal_start < self.anneal_end <= 1:
            raise UserError(
                f"Annealing from {self.anneal_start} to {self.anneal_end} of training is no interval: "
                "give 0 <= anneal_start < anneal_end <= 1."
            )
        if self.anneal is Anneal.power_law and self.anneal_start == 0:
            raise UserError("A power-law anneal is straight in log-log and cannot start at 0: give anneal_start = 0.01.")
