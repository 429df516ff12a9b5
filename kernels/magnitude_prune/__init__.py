"""Keep the largest-magnitude entries of a matrix, or of all matrices of a model, also right after a step of AdamW."""

from sparse_circuits.kernels.magnitude_prune.op import adamw_prune_many_, magnitude_prune_, magnitude_prune_many_
from sparse_circuits.kernels.magnitude_prune.reference import fused_scale

__all__ = ["adamw_prune_many_", "fused_scale", "magnitude_prune_", "magnitude_prune_many_"]
