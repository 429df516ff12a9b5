"""How many entries of each weight tensor stay nonzero (Gao et al. 2025, appendix A.2).

Every matrix keeps the same share of its entries. When a model is e times wider than a base model of share p, matrices keep
p / e^2 and embeddings, unembedding and biases p / e, so that the total stays what it was. Norm gains, sinks and the bigram
table are dense.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

from torch import Tensor

from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.sparsity.config import SparsityConfig


class Budget(NamedTuple):
    """The nonzeros of one tensor: its size, its target, and the floor of its neurons."""

    size: int
    target: int
    floor: int
    neuron_axis: int
    n_neurons: int

    def at(self, density: float) -> int:
        """Return the nonzeros allowed when annealing has come down to `density` (1: dense, 0: the target)."""
        return self.target + int(density * (self.size - self.target))


def sparse_budgets(model: Transformer, config: SparsityConfig) -> dict[str, Budget]:
    """Return the budget of every sparse tensor of the model, by parameter name.

    Raises:
        UserError: a matrix's budget is below its floor, nothing would be kept, or the absolute L0 is larger than the model.
    """
    tensors = {name: p for name, p in model.named_parameters() if is_sparse(name)}
    share = config.l0_fraction if config.l0 is None else _share_of(config.l0, tensors, config.expansion)
    budgets = {}
    for name, tensor in tensors.items():
        floor = config.floor if is_matrix(name) else 0
        narrowing = _narrowing(name, config.expansion)
        target = round(share / narrowing * tensor.numel())
        budgets[name] = Budget(tensor.numel(), target, floor, axis := neuron_axis(name), tensor.shape[axis])
        if target < (needed := floor * tensor.shape[axis]):
            raise UserError(
                f"{name} may keep {target:,} of its {tensor.numel():,} entries, but a floor of {floor} in each of its "
                f"{tensor.shape[axis]:,} neurons needs {needed:,}: "
                f"{_more(needed / tensor.numel() * narrowing, tensors, config)}lower sparsity.floor to "
                f"{target // tensor.shape[axis]}."
            )
    if not any(budget.target for budget in budgets.values()):
        setting = f"l0_fraction = {config.l0_fraction:g}" if config.l0 is None else f"sparsity.l0 = {config.l0:,}"
        raise UserError(f"{setting} leaves no nonzero in any tensor: raise it.")
    return budgets


def _more(share: float, tensors: dict[str, Tensor], config: SparsityConfig) -> str:
    """Return the advice to raise the setting that the share comes from, or nothing where no setting gives as much."""
    if config.l0 is None:
        return f"raise l0_fraction to {ceil(1e4 * share) / 1e4:.4g} or " if share <= 1 else ""
    fullest = max(share / _narrowing(name, config.expansion) for name in tensors)
    return f"raise sparsity.l0 to {ceil(share * _base_size(tensors, config.expansion)):,} or " if fullest <= 1 else ""


def is_sparse(name: str) -> bool:
    """Whether a parameter is pruned: matrices, biases, embeddings and unembedding are, gains, sinks and bigram are not."""
    return name.endswith((".weight", ".bias", ".table"))


def is_matrix(name: str) -> bool:
    """Whether a parameter joins two node sites, so that its neurons have a floor."""
    return name.startswith("layers.") and name.endswith(".weight")


def neuron_axis(name: str) -> int:
    """Return where a matrix's neurons are: rows of q, k, v and MLP in, columns of attention out and MLP out."""
    return 1 if name.endswith("out.weight") else 0


def _narrowing(name: str, expansion: float) -> float:
    return expansion**2 if is_matrix(name) else expansion


def _base_size(tensors: dict[str, Tensor], expansion: float) -> float:
    """Return how many entries a share of 1 keeps of all tensors together."""
    return sum(tensor.numel() / _narrowing(name, expansion) for name, tensor in tensors.items())


def _share_of(l0: int, tensors: dict[str, Tensor], expansion: float) -> float:
    """Return the share p, possibly above 1, at which all tensors together keep `l0` entries."""
    share = l0 / _base_size(tensors, expansion)
    if (fullest := max(share / _narrowing(name, expansion) for name in tensors)) > 1:
        raise UserError(
            f"sparsity.l0 = {l0:,} would keep more entries than a tensor has: lower it to {int(l0 / fullest):,} at most."
        )
    return share
