"""AbsTopK on every backend: equal to the stable sort, exactly k survivors, gradients through survivors only."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.kernels.abs_topk import abs_topk, compiled, gelu_abs_topk, reference, rms_norm_abs_topk
from sparse_circuits.kernels.backend import Backend, use_backend

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
BACKENDS = [Backend.cpu, Backend.triton, Backend.reference]
ULP = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}


def hard_rows(width: int, dtype: torch.dtype) -> torch.Tensor:
    """Rows that are random, all zero, constant, half infinite, with a NaN, full of ties, mostly zero, of signed zeros."""
    x = torch.randn(9, width)
    x[1], x[2], x[3, : width // 2], x[4, 0] = 0, -1, float("inf"), float("nan")
    x[5], x[6] = x[5].round(), x[6] * (torch.rand(width) < 0.1)
    x[7] = torch.where(torch.rand(width) < 0.5, 0.0, -0.0)
    return x.to(dtype)


def bits(x: torch.Tensor) -> torch.Tensor:
    """Return x with every NaN alike, so that rows can be compared."""
    return x.nan_to_num(nan=9.0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("width", "k"), [(1, 1), (7, 1), (7, 6), (128, 32), (144, 36), (144, 130), (513, 100)])
def test_equals_the_stable_sort(backend: Backend, dtype: torch.dtype, width: int, k: int) -> None:
    x = hard_rows(width, dtype).requires_grad_()
    gradient = torch.randn(9, width).to(dtype)
    with use_backend(backend, ops=("abs_topk",)):
        out = abs_topk(x, k)
        (found,) = torch.autograd.grad(out, x, gradient)
    kept = reference.abs_topk_mask(x, k)
    assert torch.equal(bits(out), bits(torch.where(kept, x, 0)))
    assert torch.equal(found, torch.where(kept, gradient, 0))


@pytest.mark.parametrize(("width", "k"), [(2048, 512), (9001, 1), (9001, 8999)])
def test_rows_longer_than_a_tile(width: int, k: int) -> None:
    x = hard_rows(width, torch.bfloat16)[3:7].requires_grad_()
    with use_backend(Backend.triton, ops=("abs_topk",)):
        out = abs_topk(x, k)
        (found,) = torch.autograd.grad(out.nan_to_num().sum(), x)
    kept = reference.abs_topk_mask(x, k)
    assert torch.equal(bits(out), bits(torch.where(kept, x, 0)))
    assert torch.equal(found.bool(), kept & x.isfinite())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", [1, 20, 64])
def test_the_expression_that_is_compiled_equals_the_stable_sort(dtype: torch.dtype, k: int) -> None:
    x = hard_rows(65, dtype)
    x = x[~x.isnan().any(-1)]
    assert torch.equal(compiled.threshold_where(x, x, k), reference.abs_topk(x, k))


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    values=st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, float("inf")]), min_size=2, max_size=40),
    data=st.data(),
)
def test_ties_go_to_the_lower_index_and_exactly_k_survive(dtype: torch.dtype, values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values) - 1))
    x = torch.tensor([values, values[::-1]], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(abs_topk(x, k), x, torch.ones_like(x))
    assert torch.equal(gradient.bool(), reference.abs_topk_mask(x, k))
    assert (gradient.sum(-1) == k).all()


FUSED: dict[str, tuple[Callable, Callable]] = {
    "gelu": (lambda x, gain, k: gelu_abs_topk(x, k), lambda x, gain: F.gelu(x)),
    "rms_norm": (
        lambda x, gain, k: rms_norm_abs_topk(x, gain, k, eps=1e-6),
        lambda x, gain: F.rms_norm(x, gain.shape, gain, 1e-6),
    ),
}


@pytest.mark.parametrize("backend", [Backend.cpu, Backend.triton])
@pytest.mark.parametrize("fused", FUSED)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("width", "k"), [(1, 1), (33, 8), (130, 130), (300, 60)])
def test_fused_equals_one_after_the_other(backend: Backend, fused: str, dtype: torch.dtype, width: int, k: int) -> None:
    op, before = FUSED[fused]
    x, gain = torch.randn(21, width).to(dtype).requires_grad_(), torch.randn(width).to(dtype).requires_grad_()
    weight = torch.randn(21, width).to(dtype)
    with use_backend(backend, ops=("abs_topk",)):
        out = op(x, gain, k)
        gradients = torch.autograd.grad((out * weight).sum(), (x, gain), allow_unused=fused == "gelu")
    # Which values are so near the k-th that rounding decides, the op has decided; all else is the reference's.
    kept = reference.abs_topk_mask(out, k)
    wide_x, wide_gain = x.detach().double().requires_grad_(), gain.detach().double().requires_grad_()
    value = before(wide_x, wide_gain)
    expected = torch.autograd.grad(
        (torch.where(kept, value, 0) * weight).sum(), (wide_x, wide_gain), allow_unused=fused == "gelu"
    )
    tolerance = {"rtol": ULP[dtype], "atol": ULP[dtype] * 20}
    torch.testing.assert_close(out.double(), torch.where(kept, value, 0).detach(), **tolerance)
    worst_kept = torch.where(kept, value, float("inf")).abs().amin(-1)
    best_dropped = torch.where(kept, 0, value).abs().amax(-1)
    assert (worst_kept >= best_dropped - ULP[dtype] * 4).all()
    for found, right in zip(gradients, expected, strict=True):
        if right is not None:
            torch.testing.assert_close(found.double(), right, **tolerance)


def test_a_norm_may_be_rounded_before_the_choice() -> None:
    x, gain = torch.randn(5, 64), torch.ones(64)
    for backend in (Backend.cpu, Backend.triton):
        with use_backend(backend, ops=("abs_topk",)):
            out = rms_norm_abs_topk(x, gain, 16, eps=1e-6, dtype=torch.bfloat16)
        expected = abs_topk(F.rms_norm(x, (64,), gain, 1e-6).bfloat16(), 16)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out, expected, rtol=1e-2, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_by_finite_differences(backend: Backend) -> None:
    x = torch.randn(2, 5, dtype=torch.float64, requires_grad=True)
    gain = torch.rand(5, dtype=torch.float64, requires_grad=True)
    with use_backend(backend, ops=("abs_topk",)):
        for op in (lambda x, gain, k: abs_topk(x, k), *(op for op, _ in FUSED.values())):
            assert torch.autograd.gradcheck(lambda x, gain, op=op: op(x, gain, 2), (x, gain), fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_reads_rows_that_are_not_contiguous_and_none_at_all(backend: Backend) -> None:
    x = torch.randn(40, 3, 8).transpose(0, 2)
    with use_backend(backend, ops=("abs_topk",)):
        assert torch.equal(abs_topk(x, 5), reference.abs_topk(x, 5))
        assert abs_topk(torch.zeros(0, 40), 5).shape == (0, 40)
        assert gelu_abs_topk(torch.zeros(2, 0, 40), 5).shape == (2, 0, 40)


@pytest.mark.parametrize("fused", FUSED)
def test_backward_runs_where_forward_ran(fused: str) -> None:
    op, _ = FUSED[fused]
    x, gain = torch.randn(3, 20, requires_grad=True), torch.rand(20)
    gradients = []
    for backend in (Backend.triton, Backend.cpu):
        with use_backend(backend, ops=("abs_topk",)):
            out = op(x, gain, 5)
        gradients += torch.autograd.grad(out.sum(), x)  # the choice has ended
    torch.testing.assert_close(*gradients)


def test_idempotent_and_whole_width_is_the_identity() -> None:
    x = torch.randn(6, 20)
    assert torch.equal(abs_topk(abs_topk(x, 3), 3), abs_topk(x, 3))
    assert abs_topk(x, 20) is x


@pytest.mark.parametrize("k", [0, 21])
def test_refuses_a_k_out_of_range(k: int) -> None:
    for op in (abs_topk, gelu_abs_topk):
        with pytest.raises(ValueError, match=f"got k = {k}"):
            op(torch.randn(2, 20), k)
    with pytest.raises(ValueError, match=f"got k = {k}"):
        rms_norm_abs_topk(torch.randn(2, 20), torch.ones(20), k, eps=1e-6)
