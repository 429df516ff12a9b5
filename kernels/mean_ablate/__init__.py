"""Freeze the channels whose mask is off at their mean, with a gradient to the mask."""

from sparse_circuits.kernels.mean_ablate.op import mean_ablate
from sparse_circuits.kernels.mean_ablate.reference import surrogate_step

__all__ = ["mean_ablate", "surrogate_step"]
