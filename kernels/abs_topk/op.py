"""AbsTopK (Gao et al. 2025, appendix A.1): the activation sparsity at every node site, alone and fused with what precedes it.

Backward needs nothing but the output: what survived are its nonzeros and, in a row that has fewer than k of them, the zeros of
lowest index, which is AbsTopK's choice on the output itself. A mask would cost a byte an entry from forward to backward.
"""

from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, library

from sparse_circuits.kernels.backend import Backend, backend_of, implementation


def abs_topk(x: Float[Tensor, "*rows width"], k: int) -> Float[Tensor, "*rows width"]:
    """Zero all but the k entries of largest magnitude in every row; gradients reach the survivors only.

    Args:
        x: activations; exactly k entries of each row survive, of equal magnitudes those of lower index. NaN is the largest.
        k: entries to keep, from 1 to width (width keeps all and costs nothing).

    Raises:
        ValueError: k is out of range.
    """
    _check(x, k)
    return x if k == x.shape[-1] else _abs_topk(x, k)


def gelu_abs_topk(x: Float[Tensor, "*rows width"], k: int) -> Float[Tensor, "*rows width"]:
    """Return `abs_topk(gelu(x), k)`; one read and one write with the `triton` backend, two ops in a row with the others."""
    _check(x, k)
    return _gelu_abs_topk(x, k) if _fuses(x) else abs_topk(F.gelu(x), k)


def rms_norm_abs_topk(
    x: Float[Tensor, "*rows width"], gain: Float[Tensor, " width"], k: int, *, eps: float, dtype: torch.dtype | None = None
) -> Float[Tensor, "*rows width"]:
    """Return `abs_topk(rms_norm(x) * gain, k)`; fused like `gelu_abs_topk`, and the gain's gradient with it.

    Args:
        x: activations.
        gain: one factor per channel.
        k: entries to keep of each row, from 1 to width.
        eps: added to the mean square.
        dtype: what the normalised values are rounded to before the choice; None: the dtype of x.

    Raises:
        ValueError: k is out of range.
    """
    _check(x, k)
    dtype = x.dtype if dtype is None else dtype
    if _fuses(x):
        return _rms_norm_abs_topk(x, gain, k, eps, dtype)
    return abs_topk(F.rms_norm(x, gain.shape, gain, eps).to(dtype), k)


def _check(x: Tensor, k: int) -> None:
    width = x.shape[-1]
    if not 1 <= k <= width:
        raise ValueError(f"abs_topk keeps between 1 and width = {width} entries, got k = {k}: choose another fraction.")


def _fuses(x: Tensor) -> bool:
    return backend_of("abs_topk", x.device) is Backend.triton and x.shape[-1] <= _gpu().MAX_WIDTH


def _on(x: Tensor) -> ModuleType:
    return implementation("abs_topk", x.device)


def _gpu() -> ModuleType:
    """The fused ops are there only, so that backward runs where forward ran; Triton is imported when first needed."""
    from sparse_circuits.kernels.abs_topk import gpu

    return gpu


def _rows(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1]).contiguous()


@library.custom_op("sparse_circuits::abs_topk", mutates_args=())
def _abs_topk(x: Tensor, k: int) -> Tensor:
    return _on(x).abs_topk_forward(_rows(x), k).view(x.shape)


@library.custom_op("sparse_circuits::abs_topk_backward", mutates_args=())
def _abs_topk_backward(out: Tensor, dout: Tensor, k: int) -> Tensor:
    return _on(out).abs_topk_backward(_rows(out), _rows(dout), k).view(out.shape)


@library.custom_op("sparse_circuits::gelu_abs_topk", mutates_args=())
def _gelu_abs_topk(x: Tensor, k: int) -> Tensor:
    return _gpu().gelu_abs_topk_forward(_rows(x), k).view(x.shape)


@library.custom_op("sparse_circuits::gelu_abs_topk_backward", mutates_args=())
def _gelu_abs_topk_backward(x: Tensor, out: Tensor, dout: Tensor, k: int) -> Tensor:
    return _gpu().gelu_abs_topk_backward(_rows(x), _rows(out), _rows(dout), k).view(x.shape)


@library.custom_op("sparse_circuits::rms_norm_abs_topk", mutates_args=())
def _rms_norm_abs_topk(x: Tensor, gain: Tensor, k: int, eps: float, dtype: torch.dtype) -> Tensor:
    return _gpu().rms_norm_abs_topk_forward(_rows(x), gain, k, eps, dtype).view(x.shape)


@library.custom_op("sparse_circuits::rms_norm_abs_topk_backward", mutates_args=())
def _rms_norm_abs_topk_backward(
    x: Tensor, gain: Tensor, out: Tensor, dout: Tensor, k: int, eps: float
) -> tuple[Tensor, Tensor]:
    dx, dgain = _gpu().rms_norm_abs_topk_backward(_rows(x), gain, _rows(out), _rows(dout), k, eps)
    return dx.view(x.shape), dgain


def _like(x: Tensor) -> Tensor:
    return x.new_empty(x.shape)


_abs_topk.register_fake(lambda x, k: _like(x))
_abs_topk_backward.register_fake(lambda out, dout, k: _like(out))
_gelu_abs_topk.register_fake(lambda x, k: _like(x))
_gelu_abs_topk_backward.register_fake(lambda x, out, dout, k: _like(x))
_rms_norm_abs_topk.register_fake(lambda x, gain, k, eps, dtype: x.new_empty(x.shape, dtype=dtype))
_rms_norm_abs_topk_backward.register_fake(lambda x, gain, out, dout, k, eps: (_like(x), _like(gain)))


def _keep_output(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    ctx.save_for_backward(output)
    ctx.k = inputs[1]


def _keep_input_and_output(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0], output)
    ctx.k = inputs[1]


def _keep_norm(ctx: Any, inputs: tuple[Tensor, Tensor, int, float, torch.dtype], output: Tensor) -> None:
    x, gain, ctx.k, ctx.eps, _ = inputs
    ctx.save_for_backward(x, gain, output)


_abs_topk.register_autograd(
    lambda ctx, dout: (_abs_topk_backward(*ctx.saved_tensors, dout, ctx.k), None), setup_context=_keep_output
)
_gelu_abs_topk.register_autograd(
    lambda ctx, dout: (_gelu_abs_topk_backward(*ctx.saved_tensors, dout, ctx.k), None), setup_context=_keep_input_and_output
)
_rms_norm_abs_topk.register_autograd(
    lambda ctx, dout: (*_rms_norm_abs_topk_backward(*ctx.saved_tensors, dout, ctx.k, ctx.eps), None, None, None),
    setup_context=_keep_norm,
)
