"""Mean ablation through torch.compile, which fuses the reference's expressions."""

from torch import Tensor

from sparse_circuits.kernels.backend import compiled
from sparse_circuits.kernels.mean_ablate import reference


def mean_ablate_forward(x: Tensor, mask: Tensor, mean: Tensor) -> Tensor:
    """Return x (n_rows, width) with the channels whose mask is not above 0 at their mean."""
    return compiled(reference.mean_ablate_forward)(x, mask, mean)


def mean_ablate_backward(dout: Tensor, x: Tensor, mask: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of x (n_rows, width) and, of each channel, the sum over rows of dout (x - mean)."""
    return compiled(reference.mean_ablate_backward)(dout, x, mask, mean)
