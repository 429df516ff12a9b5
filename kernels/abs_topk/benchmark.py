"""AbsTopK against the memory and its peers.

Roofline. Forward reads x and writes the result; backward reads the output and its gradient and writes one. With b bytes an
entry:
    forward   2 b n_rows width       131072 x 2048 in bf16: 1.07 GB, 0.25 ms at the 4.3 TB/s that a copy reaches on an H200
    backward  3 b n_rows width                              1.61 GB, 0.37 ms
    fused     the same forward, 4 b backward (x is read again), where one op after the other needs 4 b and 7 b;
              behind RMSNorm x is the residual stream's, 4 bytes an entry
Operations: about ten passes of a comparison and an addition over registers a search, two searches a row: some 40 integer
operations an entry, 11 G for the shape above, near the time of its memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_circuits.kernels.abs_topk import reference
from sparse_circuits.kernels.abs_topk.compiled import threshold_where
from sparse_circuits.kernels.abs_topk.op import abs_topk, gelu_abs_topk, rms_norm_abs_topk
from sparse_circuits.kernels.backend import compiled
from sparse_circuits.kernels.bench import Bench, Size, name_of

SHAPES = {
    Size.gpu: [(131072, 2048, dtype) for dtype in (torch.bfloat16, torch.float32)] + [(131072, 8192, torch.bfloat16)],
    Size.cpu: [(4096, width, dtype) for width in (128, 512, 2048) for dtype in (torch.float32, torch.bfloat16)],
    Size.dry: [(5, 32, torch.float32), (5, 100, torch.bfloat16), (2, 8200, torch.bfloat16)],
}
"""Rows, width and dtype; k is a quarter of the width, as in the paper."""


def benches(device: torch.device, size: Size) -> Iterator[Bench]:
    """Yield the op at every shape: forward, backward, and fused with GELU and with RMSNorm."""
    for n_rows, width, dtype in SHAPES[size]:
        k = width // 4
        x = torch.randn(n_rows, width, device=device, dtype=dtype)
        shape = f"{n_rows} x {width}, k {k}, {name_of(dtype)}"
        n_bytes = x.numel() * x.element_size()
        yield Bench("abs_topk", shape, lambda x=x, k=k: abs_topk(x, k), forward_peers(x, k), check(x, k), 2 * n_bytes)
        yield backward(x, k, shape=shape, n_bytes=n_bytes)
        yield Bench(
            "abs_topk of gelu",
            shape,
            lambda x=x, k=k: gelu_abs_topk(x, k),
            {"gelu, then abs_topk": lambda x=x, k=k: abs_topk(F.gelu(x), k)},
            near(lambda x=x, k=k: gelu_abs_topk(x, k), lambda x=x: F.gelu(x.double()), k),
            2 * n_bytes,
        )
        yield normed(x.float(), k, dtype=dtype, shape=shape)


def normed(x: Tensor, k: int, *, dtype: torch.dtype, shape: str) -> Bench:
    """Return the op behind RMSNorm, which reads the residual stream in float32."""
    gain = torch.rand(x.shape[1], device=x.device) + 0.5

    def ours() -> Tensor:
        return rms_norm_abs_topk(x, gain, k, eps=1e-6, dtype=dtype)

    def one_after_the_other() -> Tensor:
        return abs_topk(F.rms_norm(x, gain.shape, gain, 1e-6).to(dtype), k)

    def value() -> Tensor:
        return F.rms_norm(x.double(), gain.shape, gain.double(), 1e-6)

    peers: dict[str, Callable[[], object]] = {"rms_norm, then abs_topk": one_after_the_other}
    return Bench("abs_topk of rms_norm", shape, ours, peers, near(ours, value, k), x.numel() * (4 + dtype.itemsize))


def topk_scatter(x: Tensor, k: int) -> Tensor:
    """AbsTopK as it is mostly written: the indices of torch.topk, scattered."""
    kept = x.abs().topk(k, dim=-1).indices
    return torch.zeros_like(x).scatter_(-1, kept, x.gather(-1, kept))


def forward_peers(x: Tensor, k: int) -> dict[str, Callable[[], object]]:
    """Return the peers of the forward pass; on a CPU torch.compile would need a C++ compiler, so that one is the GPU's."""
    peers: dict[str, Callable[[], object]] = {"torch.topk + scatter": lambda: topk_scatter(x, k)}
    if x.device.type == "cuda":
        peers["torch.compile of a bisection"] = lambda: compiled(threshold_where)(x, x, k)
    return peers


def backward(x: Tensor, k: int, *, shape: str, n_bytes: int) -> Bench:
    """Return the backward pass beside that of torch.topk + scatter, on the same graph again and again."""
    x = x.clone().requires_grad_()
    dout = torch.randn_like(x)
    ours, peer = abs_topk(x, k), topk_scatter(x, k)

    def gradient(out: Tensor) -> Tensor:
        return torch.autograd.grad(out, x, dout, retain_graph=True)[0]

    def equal() -> None:
        assert torch.equal(gradient(ours), torch.where(reference.abs_topk_mask(x, k), dout, 0))

    peers: dict[str, Callable[[], object]] = {"torch.topk + scatter": lambda: gradient(peer)}
    return Bench("abs_topk backward", shape, lambda: gradient(ours), peers, equal, 3 * n_bytes)


def check(x: Tensor, k: int) -> Callable[[], None]:
    """Return what asserts that the op gives the stable sort's bits."""

    def equal() -> None:
        assert torch.equal(abs_topk(x, k), reference.abs_topk(x, k))

    return equal


def near(ours: Callable[[], Tensor], value: Callable[[], Tensor], k: int) -> Callable[[], None]:
    """Return what asserts that a fused op keeps k values of a row, each right to its dtype's rounding."""

    def close() -> None:
        out = ours()
        kept = reference.abs_topk_mask(out, k)
        expected = torch.where(kept, value(), 0)
        tolerance = 16 * torch.finfo(out.dtype).eps
        assert ((out - expected).abs() <= tolerance * (1 + expected.abs())).all()
        assert torch.where(kept, expected, 0).abs().sum() >= (1 - tolerance) * reference.abs_topk(value(), k).abs().sum()

    return close
