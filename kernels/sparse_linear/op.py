"""A linear map on a fixed support: forward and both gradients cost what the nonzeros cost (Gao et al. 2025, appendix B).

With W the values on the support, T its tokens, n its entries:
    y = x W^T + b,    dx = dy W,    dvalues[n] = sum over t of dy[t, row of n] x[t, column of n],    db = sum over t of dy[t]
dx is the forward product on the transposed support; dvalues is a product of which only the support's entries are sampled,
so that no dense matrix or gradient ever stands in memory. Both gradients are computed whichever is asked for, since they
share what is read of dy.
"""

from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, library

from sparse_circuits.kernels.backend import Backend, implementation
from sparse_circuits.kernels.sparse_linear.support import Support


def sparse_linear(
    x: Float[Tensor, "*rows n_in"],
    values: Float[Tensor, " n_nonzero"],
    support: Support,
    bias: Float[Tensor, " n_out"] | None = None,
) -> Float[Tensor, "*rows n_out"]:
    """Return x W^T + bias, W being `values` on the support and zero elsewhere; `compiled` runs the reference.

    Args:
        x: activations; under autocast they, the values and the bias are cast to its dtype. A NaN in a channel that no entry
            reads has no effect, except with the reference.
        values: the matrix's entries, in the support's order; sums are float32 for 16-bit values.
        support: where they stand in the matrix (n_out, n_in).
        bias: added to every row.

    Raises:
        ValueError: a shape or dtype does not fit.
    """
    if torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, values, bias = x.to(dtype), values.to(dtype), None if bias is None else bias.to(dtype)
    _check(x, values, support, bias)
    return _sparse_linear(x, values, bias, support.buffers, *support.shape)


def _check(x: Tensor, values: Tensor, support: Support, bias: Tensor | None) -> None:
    n_out, n_in = support.shape
    if len(values) != support.n_nonzero:
        raise ValueError(f"The support has {support.n_nonzero:,} entries, got {len(values):,} values: give one for each.")
    if x.shape[-1] != n_in:
        raise ValueError(f"The matrix reads {n_in} channels, got x with {x.shape[-1]}: give x (..., {n_in}).")
    if bias is not None and len(bias) != n_out:
        raise ValueError(f"The matrix writes {n_out} channels, got a bias of {len(bias)}: give one for each.")
    if odd := {each.dtype for each in (x, values, bias) if each is not None} - {x.dtype}:
        raise ValueError(f"x is {x.dtype}, values or bias {odd.pop()}: cast them to one dtype, or use autocast.")


def _on(x: Tensor) -> ModuleType:
    return implementation("sparse_linear", x.device, by_reference={Backend.compiled})


def _tokens(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1]).contiguous()


def _own_dtypes(x: Tensor) -> torch.autocast:
    """Autocast reaches into custom ops, and would narrow the products inside."""
    return torch.autocast(x.device.type, enabled=False)


@library.custom_op("sparse_circuits::sparse_linear", mutates_args=())
def _sparse_linear(x: Tensor, values: Tensor, bias: Tensor | None, buffers: list[Tensor], n_out: int, n_in: int) -> Tensor:
    support = Support((n_out, n_in), *buffers)
    with _own_dtypes(x):
        y = _on(x).sparse_linear_forward(_tokens(x), values.contiguous(), bias, support)
    return y.view(*x.shape[:-1], n_out)


@library.custom_op("sparse_circuits::sparse_linear_backward", mutates_args=())
def _sparse_linear_backward(
    x: Tensor, dy: Tensor, values: Tensor, buffers: list[Tensor], n_out: int, n_in: int
) -> tuple[Tensor, Tensor]:
    support = Support((n_out, n_in), *buffers)
    with _own_dtypes(x):
        dx, dvalues = _on(x).sparse_linear_backward(_tokens(x), _tokens(dy), values.contiguous(), support)
    return dx.view(x.shape), dvalues


@_sparse_linear.register_fake
def _(x: Tensor, values: Tensor, bias: Tensor | None, buffers: list[Tensor], n_out: int, n_in: int) -> Tensor:
    return x.new_empty(*x.shape[:-1], n_out)


@_sparse_linear_backward.register_fake
def _(x: Tensor, dy: Tensor, values: Tensor, buffers: list[Tensor], n_out: int, n_in: int) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), values.new_empty(values.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, values, bias, ctx.buffers, *ctx.shape = inputs
    ctx.save_for_backward(x, values)
    ctx.has_bias = bias is not None


def _gradients(ctx: Any, dy: Tensor) -> tuple[Any, ...]:
    x, values = ctx.saved_tensors
    dx, dvalues = _sparse_linear_backward(x, dy, values, ctx.buffers, *ctx.shape)
    dbias = dy.flatten(0, -2).sum(0) if ctx.has_bias else None
    return dx, dvalues, dbias, [None] * len(ctx.buffers), None, None


_sparse_linear.register_autograd(_gradients, setup_context=_keep)
