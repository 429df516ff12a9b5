"""AbsTopK: equal to the stable sort, exactly k survivors, gradients through survivors only."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparse_circuits.kernels.abs_topk import abs_topk, reference

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("width", "k"), [(1, 1), (7, 1), (7, 6), (128, 32), (513, 100), (2048, 512)])
def test_equals_the_stable_sort(dtype: torch.dtype, width: int, k: int) -> None:
    x = torch.randn(37, width).to(dtype)
    assert torch.equal(abs_topk(x, k), reference.abs_topk(x, k))


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(DTYPES),
    values=st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, float("inf")]), min_size=2, max_size=40),
    data=st.data(),
)
def test_ties_go_to_the_lower_index_and_exactly_k_survive(dtype: torch.dtype, values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values) - 1))
    x = torch.tensor([values, values[::-1]], dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(torch.where(x.isinf(), 0, abs_topk(x, k)).sum(), x)
    finite = ~x.isinf()
    assert torch.equal(gradient.bool() & finite, reference.abs_topk_mask(x, k) & finite)
    assert (reference.abs_topk_mask(x, k).sum(-1) == k).all()


def test_gradient_reaches_survivors_only() -> None:
    x = torch.randn(5, 3, 16, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: abs_topk(x, 4), x)


def test_reads_rows_that_are_not_contiguous() -> None:
    x = torch.randn(64, 9, 40).transpose(0, 2)
    assert torch.equal(abs_topk(x, 5), reference.abs_topk(x, 5))


def test_idempotent_and_whole_width_is_the_identity() -> None:
    x = torch.randn(6, 20)
    assert torch.equal(abs_topk(abs_topk(x, 3), 3), abs_topk(x, 3))
    assert abs_topk(x, 20) is x


@pytest.mark.parametrize("k", [0, 21])
def test_refuses_a_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=f"got k = {k}"):
        abs_topk(torch.randn(2, 20), k)
