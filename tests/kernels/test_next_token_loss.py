"""The fused loss: value and gradients equal to cross-entropy over all logits."""

import pytest
import torch

from sparse_circuits.kernels.next_token_loss import next_token_loss, reference


@pytest.mark.parametrize("n", [1, 512, 700])
@pytest.mark.parametrize("with_bigram", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_value_and_gradients_equal_the_reference(n: int, with_bigram: bool, scale: float) -> None:
    hidden = torch.randn(n, 6, dtype=torch.float64, requires_grad=True)
    unembedding = torch.randn(11, 6, dtype=torch.float64, requires_grad=True)
    bigram = torch.randn(11, 11, dtype=torch.float64, requires_grad=True) if with_bigram else None
    tokens, targets = torch.randint(11, (2, n))
    leaves = [leaf for leaf in (hidden, unembedding, bigram) if leaf is not None]
    found = next_token_loss(hidden, unembedding, targets, bigram, tokens)
    expected = reference.next_token_loss(hidden, unembedding, targets, bigram, tokens)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(scale * found, leaves), torch.autograd.grad(scale * expected, leaves))


def test_bf16_stays_close_to_float64() -> None:
    hidden, unembedding = torch.randn(300, 64), torch.randn(50, 64) * 0.1
    targets = torch.randint(50, (300,))
    found = next_token_loss(hidden.bfloat16(), unembedding, targets)
    assert found.dtype == torch.float32
    exact = reference.next_token_loss(hidden.double(), unembedding.double(), targets)
    torch.testing.assert_close(found.double(), exact, rtol=1e-2, atol=0)
