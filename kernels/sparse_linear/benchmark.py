"""A linear map on a support against the dense product, torch's CSR products and 2:4 sparsity, and where dense overtakes it.

    python -m sparse_circuits.kernels.sparse_linear.benchmark

measures that crossing on this machine and writes it to crossover.py.

Roofline, with T tokens, s bytes a value (2 for bf16) and n nonzeros of s + 4 bytes (value and column):
- forward reads x and W and writes y: s T (n_in + n_out) + (s + 4) n bytes. Ours also writes and reads x^T: 2 s T n_in more.
- backward reads x, dy and W and writes dx and dvalues: s T (2 n_in + n_out) + (2 s + 4) n. Ours also writes and reads x^T,
  writes dy^T and reads it twice: s T (2 n_in + 3 n_out) more.
- 2 n T operations forward and 4 n T backward: at low density none to speak of.
The kernels read a row of x^T once for every nonzero of its column, s T n bytes altogether; tiles of the same tokens run
together, so that all but the first read should be the L2 cache's.

At 2048 -> 8192, density 1/1000, T = 131,072 in bf16 (n about 16,777), an H200's 4.3 TB/s of measured copy bandwidth sets floors
of 0.62 ms forward (2.68 GB; 0.87 ms for the 3.76 GB with the transpose) and 0.75 ms backward (3.22 GB; 2.50 ms for 10.74 GB).
"""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sparse_circuits.kernels.bench import Bench, Size, name_of, time_in_turn
from sparse_circuits.kernels.sparse_linear import crossover, reference
from sparse_circuits.kernels.sparse_linear.dispatch import Choice, Linear, Product, device_kind, dtype_name
from sparse_circuits.kernels.sparse_linear.op import sparse_linear
from sparse_circuits.kernels.sparse_linear.support import Support

Shape = tuple[int, int, int]
"""Tokens, n_in, n_out."""
SHAPES = {Size.gpu: (131_072, 2048, 8192), Size.cpu: (4096, 512, 2048), Size.dry: (100, 24, 40)}
DENSITIES = {Size.gpu: (0.001,), Size.cpu: (0.0005, 0.01, 0.0625, 0.25), Size.dry: (0.1,)}
DTYPES = {Size.gpu: (torch.bfloat16,), Size.cpu: (torch.float32, torch.bfloat16), Size.dry: (torch.float32, torch.bfloat16)}
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
CROSSOVER_DENSITIES = tuple(2.0**-power for power in range(11, 0, -1))


def benches(device: torch.device, size: Size) -> Iterator[Bench]:
    """Yield forward and backward at every density and dtype of this size; a peer that cannot run is named in the shape."""
    for dtype in DTYPES[size]:
        for density in DENSITIES[size]:
            yield _forward(SHAPES[size], density, dtype, device)
            yield _backward(SHAPES[size], density, dtype, device)


def _forward(shape: Shape, density: float, dtype: torch.dtype, device: torch.device) -> Bench:
    x, values, support = _inputs(shape, density, dtype, device)
    weight = support.dense(values)
    peers: dict[str, Callable[[], object]] = {"dense": lambda: F.linear(x, weight)}
    missing = []
    if device.type == "cuda" or dtype.itemsize > 2:
        matrix = _csr(support.row_pointers, support.columns, values, support.shape)
        peers["torch.sparse CSR"] = lambda: (matrix @ x.T).T
    else:
        missing.append("CSR (16-bit: GPU only)")
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0) and dtype.itemsize == 2:
        halved = torch.sparse.to_sparse_semi_structured(_two_of_four(weight))
        peers["2:4 (of each four the two largest)"] = lambda: F.linear(x, halved)
    else:
        missing.append("2:4 (16-bit on sm80 and later only)")

    def check() -> None:
        expected = reference.sparse_linear(x.float(), values.float(), support)
        _assert_close(sparse_linear(x, values, support), expected)

    n_bytes = (x.numel() + len(x) * support.shape[0]) * dtype.itemsize + support.n_nonzero * (dtype.itemsize + 4)
    name = _name(shape, density, dtype, missing)
    return Bench("sparse_linear", name, lambda: sparse_linear(x, values, support), peers, check, n_bytes)


def _backward(shape: Shape, density: float, dtype: torch.dtype, device: torch.device) -> Bench:
    x, values, support = _inputs(shape, density, dtype, device)
    weight, dy = support.dense(values), torch.randn(len(x), support.shape[0], device=device).to(dtype)
    peers: dict[str, Callable[[], object]] = {"dense": lambda: (dy @ weight, dy.T @ x)}
    missing = ["2:4 (no sampled product)"]
    if dtype.itemsize > 2:
        n_out, n_in = support.shape
        turned = _csr(support.column_pointers, support.rows_by_column, values[support.by_column], (n_in, n_out))
        empty = _csr(support.row_pointers, support.columns, torch.zeros_like(values), support.shape)
        peers["torch.sparse CSR"] = lambda: ((turned @ dy.T).T, torch.sparse.sampled_addmm(empty, dy.T, x))
    else:
        missing.append("CSR (samples no 16-bit product)")

    def ours() -> tuple[Tensor, Tensor]:
        return torch.ops.sparse_circuits.sparse_linear_backward(x, dy, values, support.buffers, *support.shape)

    def check() -> None:
        expected = reference.sparse_linear_backward(x.float(), dy.float(), values.float(), support)
        for found, wanted in zip(ours(), expected, strict=True):
            _assert_close(found, wanted)

    n_bytes = (2 * x.numel() + dy.numel()) * dtype.itemsize + support.n_nonzero * (2 * dtype.itemsize + 4)
    return Bench("sparse_linear backward", _name(shape, density, dtype, missing), ours, peers, check, n_bytes)


def _inputs(shape: Shape, density: float, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Support]:
    n_tokens, n_in, n_out = shape
    support = Support.of(torch.rand(n_out, n_in, device=device) < density)
    x, values = (torch.randn(shape, device=device).to(dtype) for shape in ((n_tokens, n_in), (support.n_nonzero,)))
    return x, values, support


def _csr(pointers: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return torch.sparse_csr_tensor(pointers, columns, values, shape, check_invariants=False)


def _two_of_four(weight: Tensor) -> Tensor:
    """Zero, in every four neighbours of a row, all but the two largest; at low density hardly any."""
    fours = weight.view(-1, 4)
    kept = fours.abs().argsort(dim=1, descending=True)[:, :2]
    return torch.zeros_like(fours).scatter(1, kept, fours.gather(1, kept)).view(weight.shape)


def _assert_close(found: Tensor, expected: Tensor) -> None:
    tolerance = TOLERANCE[found.dtype]
    scale = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(found.to(expected.dtype), expected, rtol=tolerance, atol=tolerance * scale)


def _name(shape: Shape, density: float, dtype: torch.dtype, missing: list[str]) -> str:
    n_tokens, n_in, n_out = shape
    without = f", without {', '.join(missing)}" if missing else ""
    return f"{n_in} -> {n_out}, density {density:g}, {n_tokens} tokens, {name_of(dtype)}{without}"


def measure_crossover(shape: Shape, *, dtype: torch.dtype, device: torch.device, repeats: int = 15) -> float:
    """Return the density below which a sparse forward and backward pass takes less time than a dense one."""
    ratios = {}
    for density in CROSSOVER_DENSITIES:
        x, values, support = _inputs(shape, density, dtype, device)
        dy = torch.randn(len(x), support.shape[0], device=device).to(dtype)
        passes = {product.name: _pass(Linear(support, Choice(product, "measured")), x, values, dy) for product in Product}
        times = time_in_turn(passes, device, repeats=repeats)
        ratios[density] = times["sparse"].median / times["dense"].median
        print(f"{dtype_name(dtype)}, density {density:.5f}: sparse over dense {ratios[density]:.3f}")
    return crossing(ratios)


def _pass(linear: Linear, x: Tensor, values: Tensor, dy: Tensor) -> Callable[[], object]:
    x, values = x.detach().requires_grad_(), values.detach().requires_grad_()
    return lambda: torch.autograd.grad(linear(x, values), (x, values), dy)


def crossing(ratios: Mapping[float, float]) -> float:
    """Return the density at which the time of sparse over dense first reaches 1, between measurements straight in log-log.

    0 where sparse lost at the lowest density, 1 where it won at all.
    """
    densities = sorted(ratios)
    lost = next((index for index, density in enumerate(densities) if ratios[density] >= 1), None)
    if not lost:
        return 1.0 if lost is None else 0.0
    below, above = densities[lost - 1], densities[lost]
    share = -math.log(ratios[below]) / (math.log(ratios[above]) - math.log(ratios[below]))
    return below * (above / below) ** share


def write_crossover(measured: Mapping[tuple[str, str], float], path: Path) -> None:
    """Write the table with what was measured in place of what stood there, to three digits."""
    table = dict(sorted((crossover.CROSSOVER | dict(measured)).items()))
    head = path.read_text(encoding="utf-8").partition("CROSSOVER:")[0]
    lines = "".join(f'    ("{kind}", "{dtype}"): {density:.3g},\n' for (kind, dtype), density in table.items())
    path.write_text(f"{head}CROSSOVER: dict[tuple[str, str], float] = {{\n{lines}}}\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dry", action="store_true", help="the smallest shape, and print the table only")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    size = Size.dry if arguments.dry else Size.gpu if device.type == "cuda" else Size.cpu
    kind = device_kind(device)
    measured = {
        (kind, dtype_name(dtype)): measure_crossover(SHAPES[size], dtype=dtype, device=device) for dtype in DTYPES[size]
    }
    print(measured)
    if not arguments.dry:
        write_crossover(measured, Path(crossover.__file__))


if __name__ == "__main__":
    main()
