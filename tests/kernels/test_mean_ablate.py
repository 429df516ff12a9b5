"""Mean ablation: equal to its reference, forward and backward, and to the formula of the surrogate gradient."""

import pytest
import torch

from sparse_circuits.kernels.backend import Backend, use_backend
from sparse_circuits.kernels.mean_ablate import mean_ablate, reference

BACKENDS = [Backend.cpu, Backend.triton, Backend.reference]


def inputs(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    x, mask, mean = torch.randn(*shape), torch.randn(shape[-1]), torch.randn(shape[-1])
    mask[0] = 0.0  # the step is off at exactly 0
    return x.to(dtype).requires_grad_(), mask.to(dtype).requires_grad_(), mean.to(dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (0, 4), (4, 30, 33), (3, 700, 300)])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_equals_the_reference_in_float64(backend: Backend, shape: tuple[int, ...], temperature: float) -> None:
    x, mask, mean = inputs(*shape)
    weight = torch.randn(*shape, dtype=torch.float64)
    results = []
    for op in (mean_ablate, reference.mean_ablate):
        with use_backend(backend, ops=("mean_ablate",)):
            y = op(x, mask, mean, temperature=temperature)
            results.append((y.detach(), *torch.autograd.grad((y * weight).sum(), (x, mask))))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-10)


def test_forward_takes_the_mean_where_the_mask_is_not_above_zero() -> None:
    y = mean_ablate(torch.tensor([[5.0, 6.0, 7.0]]), torch.tensor([0.1, 0.0, -1.0]), torch.tensor([1.0, 2.0, 3.0]))
    assert y.tolist() == [[5.0, 2.0, 3.0]]


def test_gradient_by_hand() -> None:
    mask = torch.tensor([2.0], requires_grad=True)
    y = mean_ablate(torch.tensor([[3.0], [4.0]]), mask, torch.tensor([1.0]), temperature=2.0)
    y.backward(torch.tensor([[10.0], [-1.0]]))
    s = torch.sigmoid(torch.tensor(1.0))
    torch.testing.assert_close(mask.grad, (s * (1 - s) / 2 * (10 * (3 - 1) - (4 - 1))).reshape(1))


def test_no_gradient_reaches_an_ablated_channel() -> None:
    x, mask, mean = inputs(6, 9)
    (gradient,) = torch.autograd.grad(mean_ablate(x, mask, mean).sum(), x)
    assert torch.equal(gradient.bool(), (mask > 0).expand(6, 9))


@pytest.mark.parametrize("backend", BACKENDS)
def test_bf16_activations_keep_a_float32_mask_gradient(backend: Backend) -> None:
    x, mask, mean = inputs(4, 500, 64, dtype=torch.float32)
    weight = torch.randn(4, 500, 64)
    (exact,) = torch.autograd.grad((mean_ablate(x, mask, mean) * weight).sum(), mask)
    with use_backend(backend, ops=("mean_ablate",)):
        low = mean_ablate(x.to(torch.bfloat16), mask, mean)
        (found,) = torch.autograd.grad((low * weight.to(torch.bfloat16)).sum(), mask)
    assert low.dtype == torch.bfloat16 and found.dtype == torch.float32
    assert (found - exact).norm() < 0.01 * exact.norm()


def test_reads_rows_that_are_not_contiguous() -> None:
    x, mask, mean = inputs(40, 6, 5)
    turned = x.transpose(0, 1)
    for op in (mean_ablate, reference.mean_ablate):
        (gradient,) = torch.autograd.grad(op(turned, mask, mean).pow(2).sum(), mask)
        if op is mean_ablate:
            first = gradient
    torch.testing.assert_close(first, gradient)


def test_refuses_a_temperature_of_zero() -> None:
    x, mask, mean = inputs(2, 3)
    with pytest.raises(ValueError, match="temperature above 0, got 0"):
        mean_ablate(x, mask, mean, temperature=0.0)
