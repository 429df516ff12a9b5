"""Sink attention (Gao et al. 2025, appendix A.1): causal attention in which each head may attend to nothing.

A sink is a logit z per head that takes part in the softmax with value zero. What is kept from forward to backward is linear in
the sequence: q, k, v, the output and the log-sum-exp.
"""

from functools import partial
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from einops import repeat
from jaxtyping import Float
from torch import Tensor, library

from sparse_circuits.kernels.backend import Backend, backend_of, compiled
from sparse_circuits.kernels.sink_attention import cpu, reference
from sparse_circuits.kernels.sink_attention.layout import empty_rows


def sink_attention(
    q: Float[Tensor, "batch n_heads query d_head"],
    k: Float[Tensor, "batch n_heads pos d_head"],
    v: Float[Tensor, "batch n_heads pos d_head"],
    sink: Float[Tensor, " n_heads"] | None = None,
    *,
    bias: Float[Tensor, "batch query pos"] | None = None,
) -> Float[Tensor, "batch n_heads query d_head"]:
    """Attend causally with scale d_head^-1/2, the sink taking its share of each query's attention for nothing.

    The `cpu` backend runs in float32 also under autocast (the library's bf16 backward is slower there); without a sink it is
    the library's attention. Where a device is neither a CPU nor a GPU of CUDA or ROCm, `reference` runs the library's
    attention too, through `attention_with_sink_key` if there is a sink.

    Args:
        q, k, v: queries, keys and values of every head, by any strides; of two dtypes, the wider is computed in. Without a
            bias there are as many queries as keys.
        sink: the sink's logit in each head; None for ordinary attention.
        bias: added to the scores of each query (row) and key in every head, -inf where the query does not look at the key;
            None: it looks at all up to its own. Only the `cpu` backend has a kernel for it, the others spell it out.

    Raises:
        ValueError: the shapes differ, or the `triton` backend is given heads of more than 128 channels.
    """
    _check(q, k, v, sink, bias)
    wide = torch.promote_types(torch.promote_types(q.dtype, k.dtype), v.dtype)
    run = _run if bias is None else partial(_run_biased, bias=bias)
    return run(q.to(wide), k.to(wide), v.to(wide), sink).to(q.dtype)


def _run_biased(q: Tensor, k: Tensor, v: Tensor, sink: Tensor | None, *, bias: Tensor) -> Tensor:
    if sink is None or backend_of("sink_attention", q.device) is not Backend.cpu:
        return reference.sink_attention(q, k, v, sink, bias=bias)
    wide = torch.promote_types(q.dtype, torch.float32)
    bias = repeat(bias.to(wide), "batch query key -> batch head query key", head=q.shape[1])
    return _attend(q.to(wide), k.to(wide), v.to(wide), sink.to(wide), bias, "cpu")[0]


def _run(q: Tensor, k: Tensor, v: Tensor, sink: Tensor | None) -> Tensor:
    match backend_of("sink_attention", q.device):
        case Backend.triton:
            sink = q.new_full(q.shape[1:2], float("-inf"), dtype=torch.float32) if sink is None else sink
            return _attend(q, k, v, sink, None, "triton")[0]
        case Backend.cpu if sink is not None:
            wide = torch.promote_types(q.dtype, torch.float32)
            return _attend(q.to(wide), k.to(wide), v.to(wide), sink.to(wide), None, "cpu")[0]
        case Backend.compiled:
            # Inside another torch.compile the reference is compiled with what surrounds it.
            inside = torch.compiler.is_compiling()
            attend = reference.sink_attention if inside else compiled(reference.sink_attention)
            return attend(q, k, v, sink)
        case Backend.reference if q.device.type in ("cpu", "cuda"):
            return reference.sink_attention(q, k, v, sink)
    if sink is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return attention_with_sink_key(q, k, v, sink)


def attention_with_sink_key(
    q: Float[Tensor, "batch n_heads pos d_head"],
    k: Float[Tensor, "batch n_heads pos d_head"],
    v: Float[Tensor, "batch n_heads pos d_head"],
    sink: Float[Tensor, " n_heads"],
) -> Float[Tensor, "batch n_heads pos d_head"]:
    """The same through any causal kernel, whatever it keeps to itself.

    The sink enters as one more key: query and key 0 prepended, with a head channel that is 1 in every query and
    z * sqrt(d_head) in that key alone.
    """
    d_head = q.shape[-1]
    q, k, v = F.pad(q, (0, 1, 1, 0), value=0.0), F.pad(k, (0, 1, 1, 0)), F.pad(v, (0, 1, 1, 0))
    q[..., -1] = 1.0
    k[..., 0, -1] = repeat(sink.to(k) * d_head**0.5, "head -> batch head", batch=len(k))
    return F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=d_head**-0.5)[..., 1:, :d_head]


def _check(q: Tensor, k: Tensor, v: Tensor, sink: Tensor | None, bias: Tensor | None) -> None:
    n_queries = k.shape[2] if bias is None else bias.shape[1]
    if k.shape != v.shape or q.shape != (*k.shape[:2], n_queries, k.shape[3]):
        shapes = ", ".join(str(tuple(x.shape)) for x in (q, k, v))
        raise ValueError(f"Queries, keys and values must be of one shape, got {shapes}: repeat keys that queries share.")
    if sink is not None and sink.shape != q.shape[1:2]:
        raise ValueError(f"{q.shape[1]} heads have one sink each, got sinks of shape {tuple(sink.shape)}: pass as many.")


def _module(backend: str) -> ModuleType:
    if backend == "cpu":
        return cpu
    # Triton is there on Linux only, and is not imported where no kernel of it runs.
    from sparse_circuits.kernels.sink_attention import gpu

    return gpu


# The backend is an argument, so that backward runs where forward ran: each reads its own log-sum-exp.
@library.custom_op("sparse_circuits::sink_attention", mutates_args=())
def _attend(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, bias: Tensor | None, backend: str) -> tuple[Tensor, Tensor]:
    return _module(backend).sink_attention_forward(q, k, v, sink, *_given(bias))


@library.custom_op("sparse_circuits::sink_attention_backward", mutates_args=())
def _attend_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, sink: Tensor, bias: Tensor | None, out: Tensor, lse: Tensor, backend: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _module(backend).sink_attention_backward(dout, q, k, v, sink, out, lse, *_given(bias))


def _given(bias: Tensor | None) -> list[Tensor]:
    return [] if bias is None else [bias]


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, sink: Tensor, bias: Tensor | None, backend: str) -> tuple[Tensor, Tensor]:
    return empty_rows(q), q.new_empty(q.shape[:3], dtype=torch.promote_types(q.dtype, torch.float32))


@_attend_backward.register_fake
def _(dout: Tensor, q: Tensor, k: Tensor, v: Tensor, sink: Tensor, *_: Any) -> tuple[Tensor, ...]:
    return empty_rows(q), empty_rows(q), empty_rows(q), torch.empty_like(sink)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.backend = inputs
    ctx.save_for_backward(*tensors, *output)


def _gradients(ctx: Any, dout: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    return *_attend_backward(dout, *ctx.saved_tensors, ctx.backend), None, None


_attend.register_autograd(_gradients, setup_context=_keep)
