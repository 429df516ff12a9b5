"""A linear map whose product another can stand in for, such as one on the nonzeros of its weight alone."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.model.taps import Kept

Product = Callable[[Tensor, Tensor | None], Tensor]
"""From x and the bias to x W^T + bias."""


class Linear(nn.Linear):
    """torch's linear map; while `product` is set, that is taken in place of the dense product."""

    product: Product | None = None

    def forward(self, x: Float[Tensor, "*rows n_in"], kept: Kept | None = None) -> Float[Tensor, "*rows n_out"]:
        """Return x W^T + bias; `kept` says of an x that went through this tap that it need not all be read."""
        return linear(x, self.weight, self.bias, kept) if self.product is None else self.product(x, self.bias)


def linear(
    x: Float[Tensor, "*rows n_in"],
    weight: Float[Tensor, "n_out n_in"],
    bias: Float[Tensor, " n_out"] | None,
    kept: Kept | None = None,
) -> Float[Tensor, "*rows n_out"]:
    """Return x W^T + bias, from few channels of x where the others are known to hold a row."""
    if kept is None or 2 * len(kept.channels) > x.shape[-1]:
        return F.linear(x, weight, bias)
    constant = F.linear(kept.rest.to(weight), weight, bias)
    return F.linear(x[..., kept.channels], weight[:, kept.channels], constant)
