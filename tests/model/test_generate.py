"""Generation: greedy is the argmax, top_k limits, seeds repeat."""

import pytest
import torch

from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer, generate


@pytest.fixture
def model() -> Transformer:
    return Transformer(ModelConfig(n_layers=1, d_model=16, d_head=4, n_ctx=8), d_vocab=30)


def test_greedy_takes_the_likeliest_token(model: Transformer) -> None:
    ids = generate(model, [3, 4], n_tokens=3, temperature=0.0)
    for end in range(2, 5):
        assert ids[end] == model(torch.tensor([ids[:end]]))[0, -1].argmax()


def test_top_k_of_one_is_greedy_and_seeds_repeat(model: Transformer) -> None:
    greedy = generate(model, [3], n_tokens=5, temperature=0.0)
    assert generate(model, [3], n_tokens=5, top_k=1) == greedy
    assert generate(model, [3], n_tokens=12, seed=1) == generate(model, [3], n_tokens=12, seed=1)
    assert generate(model, [3], n_tokens=12, seed=1) != generate(model, [3], n_tokens=12, seed=2)


def test_a_text_longer_than_the_context_goes_on(model: Transformer) -> None:
    assert len(generate(model, list(range(20)), n_tokens=4)) == 24


@pytest.mark.parametrize("options", [{"prompt": []}, {"temperature": -1.0}, {"top_k": 0}])
def test_bad_settings_are_refused(model: Transformer, options: dict) -> None:
    with pytest.raises(UserError):
        generate(model, **({"prompt": [1], "n_tokens": 1} | options))
