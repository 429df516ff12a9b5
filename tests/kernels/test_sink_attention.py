"""Sink attention: value and every gradient equal to the softmax spelled out, on both paths."""

from collections.abc import Callable

import pytest
import torch

from sparse_circuits.kernels.sink_attention import op, reference, sink_attention

PATHS = [sink_attention, op.attention_with_sink_key]


@pytest.mark.parametrize("attend", PATHS)
@pytest.mark.parametrize("shape", [(1, 1, 1, 4), (2, 3, 17, 8), (2, 2, 130, 16)])
def test_value_and_gradients_equal_the_reference(attend: Callable, shape: tuple[int, ...]) -> None:
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    inputs.append(torch.randn(shape[1], dtype=torch.float64, requires_grad=True))
    out, expected = attend(*inputs), reference.sink_attention(*inputs)
    torch.testing.assert_close(out, expected)
    weight = torch.randn_like(out)
    found = torch.autograd.grad((out * weight).sum(), inputs)
    torch.testing.assert_close(found, torch.autograd.grad((expected * weight).sum(), inputs))


def test_without_a_sink_it_is_ordinary_causal_attention() -> None:
    q, k, v = torch.randn(3, 2, 3, 9, 8, dtype=torch.float64)
    torch.testing.assert_close(sink_attention(q, k, v), reference.sink_attention(q, k, v))


@pytest.mark.parametrize("sink", [-1e4, 1e4])
def test_an_extreme_sink_takes_nothing_or_all(sink: float) -> None:
    q, k, v = torch.randn(3, 2, 3, 9, 8)
    out = sink_attention(q, k, v, torch.full((3,), sink))
    torch.testing.assert_close(out, sink_attention(q, k, v) if sink < 0 else torch.zeros_like(out))


def test_keeps_the_dtype_of_autocast() -> None:
    q, k, v = torch.randn(3, 2, 3, 9, 8).bfloat16()
    out = sink_attention(q, k, v, torch.zeros(3))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, reference.sink_attention(q.float(), k.float(), v.float(), torch.zeros(3)).bfloat16())
