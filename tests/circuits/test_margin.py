"""Margins: those of one plain pass, whatever the lengths and the order of the prompts, each prompt under its own taps."""

import dataclasses

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.margin import (
    PAIRS_AT_ONCE,
    Start,
    answer_margins,
    chunk_margins,
    chunks,
    pooled,
    run_through,
    score,
)
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import count_nodes
from sparse_circuits.model import ModelConfig, Transformer, node_sites, site_width
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import PairBatch, Scoring, answer_difference, task_losses
from tests.circuits.random_pairs import random_pairs

CONFIG = ModelConfig(n_layers=2, d_model=16, n_ctx=12, d_head=4, abs_topk=1.0)


@pytest.fixture
def model() -> Transformer:
    return Transformer(CONFIG, d_vocab=30).double().requires_grad_(False)


@pytest.fixture
def batch() -> PairBatch:
    return random_pairs(100, n_pos=12, d_vocab=30, n_ids=3, scoring=Scoring.prefix_set)


@pytest.fixture
def ablated() -> Taps:
    means = Means({s: torch.randn(site_width(CONFIG, s), dtype=torch.float64) for s in node_sites(CONFIG)}, 1, "")
    return ablation_taps(torch.rand(count_nodes(CONFIG)) < 0.5, means, CONFIG)


@pytest.mark.parametrize("scoring", Scoring)
def test_grouping_by_length_changes_nothing(model: Transformer, batch: PairBatch, scoring: Scoring) -> None:
    n_ids = 3 if scoring is Scoring.prefix_set else 1
    batch = dataclasses.replace(batch, answers=batch.answers[:, :, :n_ids], scoring=scoring)
    torch.testing.assert_close(answer_margins(model, batch), answer_difference(model(batch.tokens, at=batch.last), batch))


def test_chunks_are_whole_pairs_of_similar_length(batch: PairBatch) -> None:
    seen, shortest = [], batch.tokens.shape[1] * 2
    for numbers, pairs, rows in chunks(batch):
        assert len(numbers) == pairs.n_pairs == len(rows.tokens) <= PAIRS_AT_ONCE
        assert torch.equal(pairs.answers, batch.answers[numbers])
        assert torch.equal(pairs.last, batch.last[torch.cat([numbers, numbers + 100])])
        assert rows.ends.max() <= shortest
        seen, shortest = [*seen, *numbers.tolist()], int(rows.ends[:, 1].min())
    assert sorted(seen) == list(range(100))


def test_every_pair_runs_under_the_taps_made_for_it(model: Transformer, batch: PairBatch) -> None:
    factor = torch.rand(100, 1, 1, dtype=torch.float64)
    seen: list[int] = []

    def taps_of(pairs: Tensor) -> Taps:
        seen.extend(pairs.tolist())
        return {"0.mlp.post_act": lambda value: factor[pairs] * value}

    found = answer_margins(model, batch, taps=taps_of)
    assert sorted(seen) == list(range(100))
    logits = model(batch.tokens, taps={"0.mlp.post_act": lambda value: factor.repeat(2, 1, 1) * value}, at=batch.last)
    torch.testing.assert_close(found, answer_difference(logits, batch))


def test_score_by_hand() -> None:
    found = score(torch.tensor([2.0, -1.0, -3.0, 0.5]))  # positives 2, -1; negatives right where below 0
    expected = torch.nn.functional.softplus(torch.tensor([-2.0, 1.0, -3.0, 0.5])).mean().item()
    assert abs(found.loss - expected) < 1e-6
    assert found.accuracy == 0.5


def test_runs_are_pooled_as_one_batch_of_pairs() -> None:
    runs = torch.tensor([[2.0, -1.0, -3.0, 0.5], [4.0, 5.0, -6.0, -7.0]])  # of two pairs each
    assert pooled(runs).tolist() == [2.0, -1.0, 4.0, 5.0, -3.0, 0.5, -6.0, -7.0]
    torch.testing.assert_close(task_losses(pooled(runs)).mean(), torch.stack([task_losses(run) for run in runs]).mean())


def test_a_run_is_taken_up_at_any_sublayer(model: Transformer, batch: PairBatch, ablated: Taps) -> None:
    expected = answer_margins(model, batch, taps=ablated)
    blocked = {**ablated, "0.attn.resid_delta": torch.zeros_like}
    for chunk in chunks(batch):
        passed = run_through(model, chunk, taps=lambda pairs: ablated)
        own = torch.cat([chunk.numbers, chunk.numbers + batch.n_pairs])
        starts = {site: Start(site, stream) for site, stream in passed.streams.items()}
        assert list(starts) == ["0.resid_in", "0.resid_mid", "1.resid_in", "1.resid_mid"]
        torch.testing.assert_close(passed.margins, expected[own])
        for start in starts.values():
            torch.testing.assert_close(chunk_margins(model, chunk, taps=ablated, start=start), expected[own])
        after = chunk_margins(model, chunk, taps=blocked, start=starts["0.resid_mid"])
        torch.testing.assert_close(after, expected[own])
        before = chunk_margins(model, chunk, taps=blocked, start=starts["0.resid_in"])
        assert (before - expected[own]).abs().max() > 1e-3
