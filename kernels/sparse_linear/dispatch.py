"""Which product a matrix on a fixed support takes: the sparse one below a density that was measured, the dense one above.

Where the device was not measured, the crossing is the authors' (Gao et al. 2025, appendix B): about 1 % for unstructured sparse
products on CUDA cores against dense ones on tensor cores. `crossover.py` holds what was measured, and the benchmark writes it.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.kernels.sparse_linear.crossover import CROSSOVER
from sparse_circuits.kernels.sparse_linear.op import sparse_linear
from sparse_circuits.kernels.sparse_linear.support import Support

PUBLISHED_CROSSOVER = 0.01

logger = logging.getLogger(__name__)


class Product(Enum):
    """How a matrix on a support is multiplied."""

    sparse = "sparse"
    dense = "dense"


class Choice(NamedTuple):
    """The product taken, and why."""

    product: Product
    why: str
    """One sentence: device, dtype, the crossing, and whether it was measured."""


@dataclass(frozen=True, eq=False)
class Linear:
    """x W^T + bias with W on a support, by the product that was chosen for it."""

    support: Support
    choice: Choice

    def __call__(
        self, x: Float[Tensor, "*rows n_in"], values: Float[Tensor, " n_nonzero"], bias: Float[Tensor, " n_out"] | None = None
    ) -> Float[Tensor, "*rows n_out"]:
        """Return the product; see `sparse_linear`."""
        if self.choice.product is Product.sparse:
            return sparse_linear(x, values, self.support, bias)
        return F.linear(x, self.support.dense(values), bias)


def choose_product(density: float, *, dtype: torch.dtype, device: torch.device) -> Choice:
    """Return the product that is faster at this density, and log why, once for each device and dtype."""
    kind, name = device_kind(device), dtype_name(dtype)
    measured = CROSSOVER.get((kind, name))
    crossing = PUBLISHED_CROSSOVER if measured is None else measured
    source = "not measured here: the authors' published crossing" if measured is None else "measured"
    why = (
        f"sparse_linear, {name} on {kind}: the sparse product below a density of {crossing:.3g}, else the dense one ({source})."
    )
    _say_once(why)
    return Choice(Product.sparse if density < crossing else Product.dense, why)


@cache
def _say_once(why: str) -> None:
    logger.info(why)


def device_kind(device: torch.device) -> str:
    """Return what a measurement holds for: the GPU's model, or the CPU's vector instructions."""
    match device.type:
        case "cuda":
            return torch.cuda.get_device_name(device)
        case "cpu":
            return f"cpu {torch.backends.cpu.get_cpu_capability()}"
    return device.type


def dtype_name(dtype: torch.dtype) -> str:
    """Return `bfloat16` for torch.bfloat16."""
    return str(dtype).removeprefix("torch.")
