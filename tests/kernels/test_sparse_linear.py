"""A linear map on a fixed support: equal to the dense one on every backend, at any density, and the choice between the two."""

import logging
from pathlib import Path

import jaxtyping
import pytest
import torch
import torch.nn.functional as F
from torch import library

from sparse_circuits.kernels.backend import Backend, use_backend
from sparse_circuits.kernels.bench import Size
from sparse_circuits.kernels.sparse_linear import Linear, Product, Support, benchmark, dispatch, reference, sparse_linear

OPS = ("sparse_linear",)
BACKENDS = [Backend.cpu, Backend.triton, Backend.reference]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Triton's interpreter cuts bf16 off instead of rounding it.
ULP = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
CPU = torch.device("cpu")


def some_mask(n_out: int, n_in: int, density: float) -> torch.Tensor:
    """A random mask with an empty row and an empty column where there is room for them."""
    mask = torch.rand(n_out, n_in) < density
    if min(n_out, n_in) > 2 and density < 1:
        mask[n_out // 2], mask[:, 1] = False, False
    return mask


def close(found: torch.Tensor, expected: torch.Tensor, dtype: torch.dtype) -> None:
    assert found.dtype == dtype
    scale = expected.abs().max().item() if expected.numel() else 1.0
    torch.testing.assert_close(found.to(expected.dtype), expected, rtol=ULP[dtype], atol=ULP[dtype] * max(scale, 1e-3))


def check(backend: Backend, dtype: torch.dtype, mask: torch.Tensor, *rows: int, with_bias: bool = True) -> None:
    """Compare the product and all of its gradients with the dense product in float64."""
    n_out, n_in = mask.shape
    support = Support.of(mask)
    inputs = [torch.randn(*rows, n_in), torch.randn(support.n_nonzero), *([torch.randn(n_out)] if with_bias else [])]
    inputs = [each.to(dtype).requires_grad_() for each in inputs]
    exact = [each.detach().double().requires_grad_() for each in inputs]
    gradient = torch.randn(*rows, n_out).to(dtype)
    with use_backend(backend, ops=OPS):
        y = sparse_linear(*inputs[:2], support, *inputs[2:])
        found = [y, *torch.autograd.grad(y, inputs, gradient)]
    expected = reference.sparse_linear(*exact[:2], support, *exact[2:])
    for one, other in zip(found, [expected, *torch.autograd.grad(expected, exact, gradient.double())], strict=True):
        close(one, other, dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_out", "n_in", "density"), [(1, 1, 1.0), (70, 45, 0.0625), (33, 130, 0.25)])
def test_equals_the_dense_product(backend: Backend, dtype: torch.dtype, n_out: int, n_in: int, density: float) -> None:
    check(backend, dtype, some_mask(n_out, n_in, density), 2, 37)
    check(backend, dtype, some_mask(n_out, n_in, density), 19, with_bias=False)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("density", [0.0, 0.0005, 1.0])
def test_empty_nearly_empty_and_full_supports(backend: Backend, density: float) -> None:
    check(backend, torch.float32, torch.rand(80, 40) < density, 21)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_empty_batch(backend: Backend) -> None:
    check(backend, torch.float32, some_mask(6, 5, 0.5), 0)
    check(backend, torch.float32, some_mask(6, 5, 0.5), 3, 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradcheck(backend: Backend) -> None:
    support = Support.of(some_mask(3, 4, 0.7))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in [(1, 3, 4), (support.n_nonzero,), (3,)]]
    with use_backend(backend, ops=OPS):
        assert torch.autograd.gradcheck(lambda x, values, bias: sparse_linear(x, values, support, bias), inputs)


def test_more_tokens_than_a_stretch(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparse_circuits.kernels.sparse_linear import gpu

    monkeypatch.setattr(gpu, "STRETCH", 128)
    check(Backend.triton, torch.float32, some_mask(9, 12, 0.3), 3 * 128 + 5)
    monkeypatch.setattr(gpu, "MAX_PARTIAL", 64)
    check(Backend.triton, torch.float32, some_mask(9, 12, 0.3), 3 * 128 + 5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_reads_what_is_not_contiguous(backend: Backend) -> None:
    support = Support.of(some_mask(20, 30, 0.2))
    x, values = torch.randn(30, 9, 4).transpose(0, 2), torch.randn(2 * support.n_nonzero)[::2]
    dy = torch.randn(20, 9, 4).transpose(0, 2)
    with use_backend(backend, ops=OPS):
        found = sparse_linear(x.requires_grad_(), values, support)
        (dx,) = torch.autograd.grad(found, x, dy)
    close(found, F.linear(x, support.dense(values)), torch.float32)
    close(dx, dy @ support.dense(values), torch.float32)


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_runs_give_the_same_bits(backend: Backend) -> None:
    support = Support.of(some_mask(40, 50, 0.2))
    x, values = torch.randn(70, 50, requires_grad=True), torch.randn(support.n_nonzero, requires_grad=True)

    def run() -> list[torch.Tensor]:
        with use_backend(backend, ops=OPS):
            y = sparse_linear(x, values, support)
            return [y, *torch.autograd.grad(y.square().sum(), (x, values))]

    assert all(torch.equal(one, other) for one, other in zip(run(), run(), strict=True))


@pytest.mark.parametrize("backend", [Backend.cpu, Backend.triton])
def test_what_no_entry_reads_has_no_effect(backend: Backend) -> None:
    x = torch.tensor([[1.0, float("nan"), 3.0], [float("inf"), float("nan"), 2.0]])
    support = Support.of(torch.tensor([[True, False, False], [False, False, True]]))
    with use_backend(backend, ops=OPS):
        assert sparse_linear(x, torch.tensor([2.0, -1.0]), support).tolist() == [[2.0, -3.0], [float("inf"), -2.0]]


def test_a_support_by_hand() -> None:
    support = Support.of(torch.tensor([[0.0, 5.0, 6.0], [0.0, 0.0, 0.0], [7.0, 8.0, 0.0]]))
    assert [each.tolist() for each in support.buffers] == [
        [0, 2, 2, 4],
        [0, 0, 2, 2],
        [1, 2, 0, 1],
        [0, 1, 3, 4],
        [2, 0, 3, 1],
        [2, 0, 2, 0],
    ]
    assert (support.shape, support.n_nonzero, support.density) == ((3, 3), 4, 4 / 9)


def test_values_and_dense_undo_each_other_and_pass_gradients() -> None:
    matrix = torch.randn(6, 9) * some_mask(6, 9, 0.4)
    support = Support.of(matrix)
    assert torch.equal(support.dense(support.values(matrix)), matrix)
    values = torch.randn(support.n_nonzero, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda values: support.values(support.dense(values) ** 2), values)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda s: sparse_linear(torch.ones(2, 4), torch.ones(3), s), "2 entries, got 3 values"),
        (lambda s: sparse_linear(torch.ones(2, 5), torch.ones(2), s), "reads 4 channels, got x with 5"),
        (lambda s: sparse_linear(torch.ones(2, 4), torch.ones(2), s, torch.ones(2)), "writes 3 channels, got a bias of 2"),
        (lambda s: sparse_linear(torch.ones(2, 4), torch.ones(2).double(), s), "cast them to one dtype"),
        (lambda s: s.dense(torch.ones(3)), "2 entries, got 3 values"),
        (lambda s: s.values(torch.ones(4, 3)), r"a matrix \[3, 4\], got \[4, 3\]"),
        (lambda s: Support.of(torch.ones(5)), r"got shape \[5\]"),
    ],
)
def test_bad_input_is_refused(wrong, says: str) -> None:
    support = Support.of(torch.tensor([[0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 0]]).bool())
    with pytest.raises(ValueError, match=says):
        wrong(support)


@pytest.mark.parametrize("backend", [Backend.cpu, Backend.triton])
def test_the_fake_kernels_say_what_the_real_ones_give(backend: Backend) -> None:
    support = Support.of(some_mask(9, 8, 0.4))
    x, values, bias = (torch.randn(*s).requires_grad_() for s in ((2, 5, 8), (support.n_nonzero,), (9,)))
    with use_backend(backend, ops=OPS):
        library.opcheck(torch.ops.sparse_circuits.sparse_linear, (x, values, bias, support.buffers, 9, 8))


def test_compiles_as_one_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # dynamo does not trace beartype
    support = Support.of(some_mask(9, 8, 0.4))
    x, values, bias = (torch.randn(*s).requires_grad_() for s in ((5, 8), (support.n_nonzero,), (9,)))

    def loss(x: torch.Tensor, values: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        return sparse_linear(x, values, support, bias).square().sum()

    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    found = torch.autograd.grad(compiled(x, values, bias), (x, values, bias))
    expected = torch.autograd.grad(loss(x, values, bias), (x, values, bias))
    torch.testing.assert_close(found, expected)


def test_autocast_computes_in_its_dtype_and_returns_gradients_in_their_own() -> None:
    support = Support.of(some_mask(9, 8, 0.4))
    x, values, bias = (torch.randn(*s).requires_grad_() for s in ((5, 8), (support.n_nonzero,), (9,)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y, dense = sparse_linear(x, values, support, bias), F.linear(x, support.dense(values), bias)
    assert y.dtype == dense.dtype == torch.bfloat16
    torch.testing.assert_close(y, dense, rtol=2e-2, atol=2e-2)
    (found,), (expected,) = (torch.autograd.grad(each.float().sum(), values) for each in (y, dense))
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=2e-2, atol=2e-2)


def test_where_nothing_was_measured_the_published_crossing_decides_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dispatch, "CROSSOVER", {})
    dispatch._say_once.cache_clear()
    with caplog.at_level(logging.INFO):
        choices = [dispatch.choose_product(density, dtype=torch.bfloat16, device=CPU) for density in (0.001, 0.009, 0.01, 0.5)]
    assert [choice.product.name for choice in choices] == ["sparse", "sparse", "dense", "dense"]
    assert "below a density of 0.01" in choices[0].why and "not measured here" in choices[0].why
    assert [record.message for record in caplog.records] == [choices[0].why]


def test_a_measured_crossing_decides_and_both_products_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    support = Support.of(some_mask(20, 30, 0.2))
    x, values, bias = torch.randn(7, 30), torch.randn(support.n_nonzero), torch.randn(20)
    found = {}
    for crossing in (0.0, 0.5):
        monkeypatch.setattr(dispatch, "CROSSOVER", {(dispatch.device_kind(CPU), "float32"): crossing})
        linear = Linear(support, dispatch.choose_product(support.density, dtype=torch.float32, device=CPU))
        assert "(measured)" in linear.choice.why
        found[linear.choice.product] = linear(x, values, bias)
    torch.testing.assert_close(found[Product.sparse], found[Product.dense])


def test_the_benchmark_runs_and_finds_the_crossing(tmp_path: Path) -> None:
    for bench in benchmark.benches(CPU, Size.dry):
        bench.check()
        for run in (bench.ours, *bench.peers.values()):
            run()
    shape = benchmark.SHAPES[Size.dry]
    assert 0 <= benchmark.measure_crossover(shape, dtype=torch.float32, device=CPU, repeats=2) <= 1
    assert benchmark.crossing({0.1: 0.5, 0.4: 2.0}) == pytest.approx(0.2)
    assert benchmark.crossing({0.1: 1.5, 0.4: 0.5}) == 0
    assert benchmark.crossing({0.1: 0.2, 0.4: 0.5}) == 1
    weight = benchmark._two_of_four(torch.randn(8, 16))
    assert (weight.view(-1, 4).count_nonzero(dim=1) == 2).all()
    path = tmp_path / "crossover.py"
    path.write_text('"""What it is."""\n\nCROSSOVER: dict[tuple[str, str], float] = {}\n')
    benchmark.write_crossover({("some gpu", "bfloat16"): 0.01234}, path)
    assert '    ("some gpu", "bfloat16"): 0.0123,\n' in path.read_text()
    held: dict = {}
    exec(path.read_text(), held)
    assert held["CROSSOVER"]["some gpu", "bfloat16"] == 0.0123
