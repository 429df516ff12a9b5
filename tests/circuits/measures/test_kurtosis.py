"""Kurtosis: that of known distributions, and of a model's stream as another library computes it from all values at once."""

import math

import pytest
import torch
from scipy import stats

from sparse_circuits.circuits.measures.kurtosis import excess_kurtosis, measure_kurtosis
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer, record

CONFIG = ModelConfig(n_layers=1, d_model=16, n_ctx=8, d_head=4)


class Batches:
    def __init__(self) -> None:
        self.tokens = torch.randint(30, (5, 4, 9))
        self.n_read = 0

    def next_batch(self) -> torch.Tensor:
        self.n_read += 1
        return self.tokens[self.n_read - 1]


@pytest.fixture
def model() -> Transformer:
    """A model with one channel that nothing writes to, and one that is the same at every token."""
    model = Transformer(CONFIG, d_vocab=30).requires_grad_(False)
    for writer in (model.layers[0].attn.out, model.layers[0].mlp.out):
        writer.weight[:2] = writer.bias[:2] = 0
    model.embed.weight[:, 0] = 0
    model.embed.weight[:, 1] = 0.1
    return model


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-1.0, 1.0], -2.0),
        ([5.0, 7.0], -2.0),
        ([0.0] * 99 + [1.0], 1 / 0.01 + 1 / 0.99 - 6),  # one in a hundred: 1 / p + 1 / (1 - p) - 6
        ([-1.0, 0.0, 1.0], -1.5),
    ],
)
def test_small_samples_by_hand(values: list[float], expected: float) -> None:
    sample = torch.tensor(values, dtype=torch.float64)
    moments = torch.stack([sample.pow(power).mean(0, keepdim=True) for power in (1, 2, 3, 4)])
    assert excess_kurtosis(moments).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ([0, 1, 0, 3], 0.0),  # normal
        ([2, 4 + 9, 8 + 3 * 2 * 9, 16 + 6 * 4 * 9 + 3 * 81], 0.0),  # normal of mean 2 and deviation 3
        ([1 / 2, 1 / 3, 1 / 4, 1 / 5], -1.2),  # uniform on [0, 1]
        ([0, 2, 0, 24], 3.0),  # Laplace
        ([1, 2, 6, 24], 6.0),  # exponential
    ],
)
def test_known_distributions_from_their_exact_moments(moments: list[float], expected: float) -> None:
    found = excess_kurtosis(torch.tensor(moments, dtype=torch.float64).unsqueeze(1))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_streamed_equals_all_values_at_once(model: Transformer) -> None:
    batches = Batches()
    found = measure_kurtosis(model, batches, n_tokens=70)
    assert (batches.n_read, found.n_tokens) == (3, 96)
    tokens = batches.tokens[:3, :, :-1].flatten(0, 1)
    stream = record(model, tokens, "final_resid")["final_resid"].flatten(0, 1).double().numpy()
    expected = stats.kurtosis(stream[:, 2:], axis=0)
    torch.testing.assert_close(found.channels[2:], torch.tensor(expected), rtol=1e-9, atol=1e-9)
    assert found.channels[:2].isnan().all()
    assert found.mean == pytest.approx(expected.mean())
    assert found.pooled == pytest.approx(stats.kurtosis(stream, axis=None))


def test_a_model_with_rare_large_channels_has_a_higher_kurtosis(model: Transformer) -> None:
    before = measure_kurtosis(model, Batches(), n_tokens=96).pooled
    model.embed.weight[3] *= 30
    assert measure_kurtosis(model, Batches(), n_tokens=96).pooled > before + 3


def test_refuses_no_tokens(model: Transformer) -> None:
    with pytest.raises(UserError, match="at least 1"):
        measure_kurtosis(model, Batches(), n_tokens=0)
    assert math.isfinite(measure_kurtosis(model, Batches(), n_tokens=1).pooled)
