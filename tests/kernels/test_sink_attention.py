"""Sink attention on every backend: value and every gradient equal to the softmax spelled out."""

from collections.abc import Callable

import jaxtyping
import pytest
import torch
from einops import rearrange
from torch import Tensor, library

from sparse_circuits.kernels.backend import Backend, use_backend
from sparse_circuits.kernels.sink_attention import op, reference, sink_attention

BACKENDS = [Backend.triton, Backend.cpu, Backend.reference]
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(1, 1, 1, 4), (2, 3, 17, 8), (1, 2, 130, 16), (1, 1, 70, 24), (1, 1, 40, 128)]
ULP = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def on(backend: Backend) -> Callable[..., Tensor]:
    def attend(*inputs: Tensor | None, bias: Tensor | None = None) -> Tensor:
        with use_backend(backend, ops=("sink_attention",)):
            return sink_attention(*inputs, bias=bias)

    return attend


def random_inputs(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Queries, keys, values and sinks that want gradients."""
    inputs = [torch.randn(shape), torch.randn(shape), torch.randn(shape), torch.randn(shape[1])]
    return [x.to(dtype).requires_grad_() for x in inputs]


def assert_equals_the_reference(attend: Callable[..., Tensor], inputs: list[Tensor], dout: Tensor | None = None) -> None:
    dtype = inputs[0].dtype
    wide = [x.detach().double().requires_grad_() for x in inputs]
    expected = reference.sink_attention(*wide)
    dout = torch.randn(expected.shape).to(dtype) if dout is None else dout
    out = attend(*inputs)
    assert out.dtype is dtype
    tolerance = {"rtol": ULP[dtype], "atol": ULP[dtype]}
    torch.testing.assert_close(out.double(), expected, **tolerance)
    gradients = torch.autograd.grad(out, inputs, dout)
    for found, right in zip(gradients, torch.autograd.grad(expected, wide, dout.double()), strict=True):
        assert found.dtype is dtype
        torch.testing.assert_close(found.double(), right, **tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_equal_the_reference(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert_equals_the_reference(on(Backend.triton), random_inputs(shape, dtype))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("n_pos", [64, 192, 256, 300])
def test_kernels_on_whole_blocks_and_on_more_than_a_program_holds(n_pos: int, dtype: torch.dtype) -> None:
    assert_equals_the_reference(on(Backend.triton), random_inputs((1, 1, n_pos, 16), dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("attend", [on(Backend.cpu), op.attention_with_sink_key], ids=["cpu", "sink key"])
@pytest.mark.parametrize("shape", SHAPES)
def test_library_paths_equal_the_reference(attend: Callable[..., Tensor], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    assert_equals_the_reference(attend, random_inputs(shape, dtype))


@pytest.mark.parametrize("backend", [Backend.triton, Backend.cpu])
@pytest.mark.parametrize("shape", [(2, 2, 5, 3), (1, 1, 35, 20)], ids=["whole head", "blocks"])
def test_gradients_by_finite_differences(backend: Backend, shape: tuple[int, ...]) -> None:
    assert torch.autograd.gradcheck(on(backend), random_inputs(shape, torch.float64), fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_mean_over_the_past_and_nothing(backend: Backend) -> None:
    # With queries of zero every score is 0, as is the sink: position t averages t + 1 values and a zero.
    v = torch.tensor([3.0, 6.0, 9.0, 12.0]).view(1, 1, 4, 1)
    out = on(backend)(torch.zeros_like(v), torch.randn_like(v), v, torch.zeros(1))
    torch.testing.assert_close(out.flatten(), torch.tensor([3 / 2, 9 / 3, 18 / 4, 30 / 5]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_a_sink_it_is_ordinary_causal_attention(backend: Backend) -> None:
    q, k, v = (torch.randn(2, 3, 9, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    out, expected = on(backend)(q, k, v), torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(out, expected)
    found = torch.autograd.grad(out.square().sum(), (q, k, v))
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), (q, k, v)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sink", [-1e4, 1e4])
def test_an_extreme_sink_takes_nothing_or_all(backend: Backend, sink: float) -> None:
    q, k, v, sinks = random_inputs((2, 3, 9, 8))
    out = on(backend)(q, k, v, sinks * 0 + sink)
    torch.testing.assert_close(out, on(backend)(q, k, v) if sink < 0 else torch.zeros_like(out))
    assert all(x.isfinite().all() for x in torch.autograd.grad(out.sum(), (q, k, v, sinks)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_query_sees_what_comes_later(backend: Backend) -> None:
    q, k, v, sinks = (x.detach() for x in random_inputs((1, 2, 70, 8)))
    before = on(backend)(q, k, v, sinks)
    k[..., 66:, :], v[..., 66:, :] = 5.0, -5.0
    assert torch.equal(on(backend)(q, k, v, sinks)[..., :66, :], before[..., :66, :])


@pytest.mark.parametrize("n_queries", [9, 2])
@pytest.mark.parametrize("has_sink", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_may_be_biased_and_keys_and_queries_left_out(backend: Backend, has_sink: bool, n_queries: int) -> None:
    q, k, v, sinks = random_inputs((2, 3, 9, 8), torch.float64)
    q, sink = q[:, :, -n_queries:], sinks if has_sink else None
    sees = (torch.rand(2, n_queries, 9) < 0.5) | torch.eye(9, dtype=torch.bool)[-n_queries:]
    bias = torch.randn(2, n_queries, 9, dtype=torch.float64).masked_fill(~sees, float("-inf"))
    scores = (q @ k.mT / 8**0.5 + bias.unsqueeze(1)).exp()
    total = scores.sum(-1, keepdim=True) + (sinks.exp().view(3, 1, 1) if has_sink else 0)
    out, expected = on(backend)(q, k, v, sink, bias=bias), scores / total @ v
    torch.testing.assert_close(out, expected)
    wanted = (q, k, v, sinks) if has_sink else (q, k, v)
    found = torch.autograd.grad(out.square().sum(), wanted)
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), wanted))


@pytest.mark.parametrize("backend", BACKENDS)
def test_keeps_the_dtype_of_autocast(backend: Backend) -> None:
    q, k, v = torch.randn(3, 2, 3, 9, 8).bfloat16()
    sink = torch.zeros(3, requires_grad=True)
    out = on(backend)(q, k, v, sink)
    assert out.dtype == torch.bfloat16
    expected = reference.sink_attention(q.float(), k.float(), v.float(), sink)
    torch.testing.assert_close(out.float(), expected, rtol=2e-2, atol=2e-2)
    (gradient,) = torch.autograd.grad(out.sum(), sink)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), sink)[0], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_two_dtypes_the_wider_is_computed_in(backend: Backend) -> None:
    q, k, v, sinks = random_inputs((2, 3, 9, 8))
    out = on(backend)(q.bfloat16(), k, v, sinks)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, on(backend)(q.bfloat16().float(), k, v, sinks).bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("backend", [Backend.triton, Backend.cpu])
def test_reads_the_projections_where_they_lie(backend: Backend, dtype: torch.dtype) -> None:
    qkv = torch.randn(2, 21, 3, 3 * 8).to(dtype).requires_grad_()
    q, k, v = (rearrange(x, "b pos (head d) -> b head pos d", head=3) for x in qkv.unbind(2))
    dout = rearrange(torch.randn(2, 21, 24).to(dtype), "b pos (head d) -> b head pos d", head=3)
    assert_equals_the_reference(on(backend), [q, k, v, torch.randn(3).to(dtype).requires_grad_()], dout)
    out = on(backend)(q, k, v, torch.zeros(3))
    assert rearrange(out, "b head pos d -> b pos (head d)").data_ptr() == out.data_ptr()


@pytest.mark.parametrize("backend", [Backend.triton, Backend.cpu])
def test_reads_rows_of_any_strides(backend: Backend) -> None:
    q = torch.randn(19, 2, 5, 4).requires_grad_()  # its channels are not next to each other
    k = torch.randn(2, 3, 5, 19 + 4).requires_grad_()  # rows that are no multiple of 16 bytes apart
    v = torch.randn(1, 3, 1, 19).requires_grad_()  # one row for all
    sinks = torch.randn(6).requires_grad_()
    views = [rearrange(q, "d b pos head -> b head pos d")[:, :3], k[..., 2:21], v.expand(2, 3, 5, 19), sinks[::2]]
    assert_equals_the_reference(on(backend), views)
    assert_equals_the_reference(on(backend), views, torch.ones(()).expand(2, 3, 5, 19))


@pytest.mark.parametrize("backend", [Backend.triton, Backend.cpu])
@pytest.mark.parametrize("shape", [(0, 3, 17, 8), (2, 3, 0, 8), (0, 3, 17, 32)])
def test_nothing_to_attend_to(backend: Backend, shape: tuple[int, ...]) -> None:
    inputs = random_inputs(shape)
    out = on(backend)(*inputs)
    assert out.shape == shape
    gradients = torch.autograd.grad(out.sum(), inputs)
    assert [x.shape for x in gradients] == [x.shape for x in inputs]
    assert not gradients[-1].any()


@pytest.mark.parametrize("shape", [(2, 3, 70, 16), (2, 3, 70, 24)])
def test_the_same_bits_every_time(shape: tuple[int, ...]) -> None:
    inputs = random_inputs(shape, torch.bfloat16)
    first, second = (torch.autograd.grad(on(Backend.triton)(*inputs).square().sum(), inputs) for _ in range(2))
    assert all(map(torch.equal, first, second))


@pytest.mark.parametrize("backend", [Backend.triton, Backend.cpu])
def test_what_is_kept_for_backward_is_linear_in_the_sequence(backend: Backend) -> None:
    inputs, kept = random_inputs((1, 2, 70, 8)), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        on(backend)(*inputs)
    assert sum(kept) == 4 * inputs[0].numel() + 2 * 70 + 2


@pytest.mark.parametrize("backend", [Backend.triton, Backend.cpu])
def test_registered_as_an_op_should_be(backend: Backend) -> None:
    inputs = random_inputs((1, 2, 5, 4))
    library.opcheck(torch.ops.sparse_circuits.sink_attention, (*inputs, None, backend.value))
    inputs = [x.detach() for x in inputs]
    out, lse = torch.ops.sparse_circuits.sink_attention(*inputs, None, backend.value)
    arguments = (torch.randn_like(out), *inputs, None, out, lse, backend.value)
    library.opcheck(torch.ops.sparse_circuits.sink_attention_backward, arguments)


@pytest.mark.parametrize("backend", [*BACKENDS, Backend.compiled])
def test_traced_without_a_break(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # dynamo does not trace beartype
    inputs = random_inputs((2, 3, 9, 8))
    with use_backend(backend, ops=("sink_attention",)):
        traced = torch.compile(lambda *x: sink_attention(*x).square().sum(), backend="aot_eager", fullgraph=True)
        found = torch.autograd.grad(traced(*inputs), inputs)
    expected = torch.autograd.grad(reference.sink_attention(*inputs).square().sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_backward_runs_where_forward_ran() -> None:
    inputs = random_inputs((1, 2, 9, 8))
    out = on(Backend.triton)(*inputs).square().sum()
    with use_backend(Backend.reference):
        found = torch.autograd.grad(out, inputs)
    expected = torch.autograd.grad(reference.sink_attention(*inputs).square().sum(), inputs)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_compiled_is_the_reference_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    monkeypatch.setattr(op, "compiled", lambda function: torch.compile(function, backend="aot_eager", fullgraph=True))
    inputs = random_inputs((2, 3, 9, 8))
    torch.testing.assert_close(on(Backend.compiled)(*inputs), reference.sink_attention(*inputs))


def test_devices_without_a_kernel_run_the_library() -> None:
    q, k, v = torch.randn(3, 2, 3, 9, 8, device="meta")
    assert sink_attention(q, k, v, torch.zeros(3, device="meta")).shape == q.shape
    assert sink_attention(q, k, v).shape == q.shape


def test_refuses_what_does_not_fit() -> None:
    q, k, v, sinks = random_inputs((2, 3, 9, 8))
    with pytest.raises(ValueError, match="of one shape"):
        op._check(q, k[:, :1], v, sinks, None)
    with pytest.raises(ValueError, match="of one shape"):
        op._check(q[:, :, :2], k, v, sinks, torch.zeros(2, 3, 9))
    with pytest.raises(ValueError, match=r"3 heads have one sink each, got sinks of shape \(2,\)"):
        op._check(q, k, v, sinks[:2], None)
    with pytest.raises(ValueError, match="heads of up to 128 channels, got 129"):
        on(Backend.triton)(*random_inputs((1, 1, 2, 129)))
