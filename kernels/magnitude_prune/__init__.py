"""Keep the largest-magnitude entries of a matrix."""

from sparse_circuits.kernels.magnitude_prune.op import magnitude_prune_

__all__ = ["magnitude_prune_"]
