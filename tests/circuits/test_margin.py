"""Margins: those of one plain pass, whatever the lengths and the order of the prompts."""

import torch

from sparse_circuits.circuits.margin import answer_margins, score
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.tasks import PairBatch, Scoring, answer_difference


def test_grouping_by_length_changes_nothing() -> None:
    model = Transformer(ModelConfig(n_layers=1, d_model=16, n_ctx=12, d_head=4), d_vocab=30).double()
    last = torch.randint(12, (100,)).repeat(2)
    batch = PairBatch(torch.randint(30, (200, 12)), last, torch.randint(30, (100, 2, 3)), Scoring.prefix_set)
    torch.testing.assert_close(answer_margins(model, batch), answer_difference(model(batch.tokens, at=last), batch))


def test_score_by_hand() -> None:
    found = score(torch.tensor([2.0, -1.0, -3.0, 0.5]))  # positives 2, -1; negatives right where below 0
    expected = torch.nn.functional.softplus(torch.tensor([-2.0, 1.0, -3.0, 0.5])).mean().item()
    assert abs(found.loss - expected) < 1e-6
    assert found.accuracy == 0.5
