from contextlib import nullcontext
from math import log

import pytest
import torch
from torch import Tensor

from sparse_circuits.bridges import Bridge, evaluate_bridge
from sparse_circuits.bridges.bigram import PRIORS, BigramCounts
from sparse_circuits.model import Transformer
from sparse_circuits.model.dense import Dense
from tests.bridges.models import D_VOCAB, transformer
from tests.bridges.test_hybrid import identity


def test_bigram_counts_by_hand() -> None:
    counts = BigramCounts(torch.tensor([[0, 1, 0], [0, 1, 2], [0, 2, 0]]), d_vocab=3)
    shares = [(2 + 1) / 9, (2 + 1) / 9, (2 + 1) / 9]
    losses = counts.losses(torch.tensor([0, 0, 2]), torch.tensor([1, 2, 2]), prior=2.0)
    expected = [(2 + 2 * shares[1]) / 5, (1 + 2 * shares[2]) / 5, (0 + 2 * shares[2]) / 3]
    assert losses.tolist() == pytest.approx([-log(p) for p in expected])
    text = torch.randint(3, (4, 9))
    each = [counts.losses(text[:, :-1], text[:, 1:], prior=prior).mean().item() for prior in PRIORS]
    assert counts.loss([text[:2], text[2:]]) == pytest.approx(min(each))


def test_every_next_token_has_one_probability() -> None:
    counts = BigramCounts(torch.randint(D_VOCAB, (20, 25)), d_vocab=D_VOCAB)
    losses = counts.losses(torch.full((D_VOCAB,), 7), torch.arange(D_VOCAB), prior=3.0)
    assert (-losses).exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_an_identity_recovers_everything(batch: Tensor) -> None:
    model = transformer(d_model=16, seed=0)
    scores = evaluate_bridge(model, model, identity(model), [batch, batch.flip(0)], bigram_loss=9.0, autocast=nullcontext)
    assert scores.n_tokens == 6 * 12
    assert scores.dense_loss == pytest.approx(scores.sparse_loss)
    for place in scores.places:
        for measured in (place.to_sparse, place.to_dense):
            assert measured.recovered == pytest.approx(1, abs=1e-4)
            assert measured.kl == pytest.approx(0, abs=1e-5) and measured.nmse == pytest.approx(0, abs=1e-8)
    assert [measured.recovered for measured in scores.alternating.values()] == pytest.approx([1, 1], abs=1e-4)


def test_an_empty_bridge_recovers_what_silence_does(sparse: Transformer, dense: Dense, bridge: Bridge, batch: Tensor) -> None:
    for each in (*bridge.encoders, *bridge.decoders):
        torch.nn.init.zeros_(each.weight)
    scores = evaluate_bridge(sparse, dense, bridge, [batch], bigram_loss=5.0, autocast=nullcontext)
    last = scores.places[-1]
    assert last.to_dense.nmse == pytest.approx(1) and last.to_sparse.nmse == pytest.approx(1)
    silent = dense.run_from("final_resid", torch.zeros(3, 12, 8), tokens=batch[:, :-1])
    loss = torch.nn.functional.cross_entropy(silent.flatten(0, 1), batch[:, 1:].flatten()).item()
    assert last.to_dense.loss == pytest.approx(loss, rel=1e-5)
    assert last.to_dense.recovered == pytest.approx((5.0 - loss) / (5.0 - scores.dense_loss), rel=1e-4)
