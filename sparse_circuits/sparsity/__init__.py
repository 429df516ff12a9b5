"""How sparse a model is made: budgets of nonzeros, their schedule, the projection after every step, and what is measured."""

from sparse_circuits.sparsity.budget import Budget, sparse_budgets
from sparse_circuits.sparsity.config import Anneal, SparsityConfig
from sparse_circuits.sparsity.measure import l0_counts
from sparse_circuits.sparsity.project import project_
from sparse_circuits.sparsity.schedule import density

__all__ = ["Anneal", "Budget", "SparsityConfig", "density", "l0_counts", "project_", "sparse_budgets"]
