"""Means: those of a plain pass, streamed, stored with their count, refused for another model."""

from pathlib import Path

import pytest
import torch

from sparse_circuits.circuits import load_means, measure_means, save_means
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer, node_sites, record

CONFIG = ModelConfig(n_layers=2, d_model=16, n_ctx=8, d_head=4)


class Batches:
    def __init__(self) -> None:
        self.tokens = torch.randint(30, (5, 4, 9))
        self.n_read = 0

    def next_batch(self) -> torch.Tensor:
        self.n_read += 1
        return self.tokens[self.n_read - 1]


@pytest.fixture
def model() -> Transformer:
    return Transformer(CONFIG, d_vocab=30)


def test_equals_the_mean_over_all_tokens_at_once(model: Transformer) -> None:
    batches = Batches()
    means = measure_means(model, batches, n_tokens=70)
    assert (batches.n_read, means.n_tokens) == (3, 96)
    values = record(model, batches.tokens[:3, :, :-1].flatten(0, 1), node_sites(CONFIG))
    expected = {site: value.double().mean((0, 1)).float() for site, value in values.items()}
    torch.testing.assert_close(means.sites, expected)


def test_survive_their_file_and_are_refused_for_another_model(model: Transformer, tmp_path: Path) -> None:
    means = measure_means(model, Batches(), n_tokens=32)
    save_means(means, tmp_path / "means.safetensors")
    loaded = load_means(tmp_path / "means.safetensors", model)
    assert (loaded.n_tokens, loaded.model_hash, list(loaded.sites)) == (32, means.model_hash, node_sites(CONFIG))
    torch.testing.assert_close(loaded.sites, means.sites, rtol=0, atol=0)
    with torch.no_grad():
        model.unembed.weight[0, 0] += 1
    with pytest.raises(UserError, match="belong to another model"):
        load_means(tmp_path / "means.safetensors", model)


def test_refuses_to_average_nothing(model: Transformer) -> None:
    with pytest.raises(UserError, match="at least 1"):
        measure_means(model, Batches(), n_tokens=0)
