"""Means: those of a plain pass, streamed, stored with their count and a sample, refused for another model."""

from pathlib import Path

import pytest
import torch

from sparse_circuits.circuits import load_means, means, measure_means, save_means
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
    found = measure_means(model, batches, n_tokens=70)
    assert (batches.n_read, found.n_tokens) == (3, 96)
    values = record(model, batches.tokens[:3, :, :-1].flatten(0, 1), node_sites(CONFIG))
    expected = {site: value.double().mean((0, 1)).float() for site, value in values.items()}
    torch.testing.assert_close(found.sites, expected)


def test_the_sample_is_the_first_tokens_read(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = Batches()
    assert torch.equal(measure_means(model, batches, n_tokens=70).sample, batches.tokens[:3, :, :-1].flatten(0, 1).int())
    monkeypatch.setattr(means, "SAMPLE_TOKENS", 33)
    batches = Batches()
    assert torch.equal(measure_means(model, batches, n_tokens=160).sample, batches.tokens[:2, :, :-1].flatten(0, 1).int())


def test_stand_for_a_site_in_the_dtype_of_its_value(model: Transformer) -> None:
    found = measure_means(model, Batches(), n_tokens=32)
    value = torch.zeros(2, 3, 16, dtype=torch.float64)
    assert torch.equal(found("1.attn.q", value), found.sites["1.attn.q"].double())
    zeroed = found.zeroed()
    assert zeroed("1.attn.q", value).dtype == torch.float64
    for site, mean in found.sites.items():
        assert torch.equal(zeroed.sites[site], torch.zeros_like(mean)) and mean.any(), site
    assert zeroed[1:] == found[1:]


def test_survive_their_file_and_are_refused_for_another_model(model: Transformer, tmp_path: Path) -> None:
    found, path = measure_means(model, Batches(), n_tokens=32), tmp_path / "means.safetensors"
    save_means(found, path)
    loaded = load_means(path, model)
    assert (loaded.n_tokens, loaded.model_hash, list(loaded.sites)) == (32, found.model_hash, node_sites(CONFIG))
    torch.testing.assert_close(loaded.sites, found.sites, rtol=0, atol=0)
    assert torch.equal(loaded.sample, found.sample)
    save_means(found._replace(sample=None), path)
    assert load_means(path, model).sample is None
    with torch.no_grad():
        model.unembed.weight[0, 0] += 1
    with pytest.raises(UserError, match="belong to another model"):
        load_means(path, model)


def test_refuses_to_average_nothing(model: Transformer) -> None:
    with pytest.raises(UserError, match="at least 1"):
        measure_means(model, Batches(), n_tokens=0)
