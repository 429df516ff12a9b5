"""A linear map whose matrix is zero but for a fixed support, and the choice of the product that is faster for it."""

from sparse_circuits.kernels.sparse_linear.dispatch import Choice, Linear, Product, choose_product
from sparse_circuits.kernels.sparse_linear.op import sparse_linear
from sparse_circuits.kernels.sparse_linear.support import Support

__all__ = ["Choice", "Linear", "Product", "Support", "choose_product", "sparse_linear"]
