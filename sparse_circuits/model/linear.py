"""A linear map whose product another can stand in for, such as one on the nonzeros of its weight alone."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

Product = Callable[[Tensor, Tensor | None], Tensor]
"""From x and the bias to x W^T + bias."""


class Linear(nn.Linear):
    """torch's linear map; while `product` is set, that is taken in place of the dense product."""

    product: Product | None = None

    def forward(self, x: Float[Tensor, "*rows n_in"]) -> Float[Tensor, "*rows n_out"]:
        return super().forward(x) if self.product is None else self.product(x, self.bias)
