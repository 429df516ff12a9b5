import math

import pytest
import torch

from sparse_circuits.tasks.encode import PairBatch
from sparse_circuits.tasks.score import answer_difference, answer_probabilities, right_margins, task_accuracy, task_losses
from sparse_circuits.tasks.task import Scoring

LOGITS = [[0.5, -1.0, 2.0, 0.25], [3.0, 1.0, 0.0, -2.0], [1.5, 0.5, -0.5, 0.0], [0.0, 2.5, 1.0, -1.0]]
ANSWERS = {
    Scoring.pair: [[[2], [0]], [[1], [3]]],
    Scoring.prefix_set: [[[2, 3], [0, -1]], [[1, -1], [3, 0]]],
    Scoring.complement: [[[2], [0]], [[1], [3]]],
}


def a_batch(scoring):
    return PairBatch(
        tokens=torch.zeros(4, 1, dtype=torch.int64),
        last=torch.zeros(4, dtype=torch.int64),
        answers=torch.tensor(ANSWERS[scoring]),
        scoring=scoring,
    )


def reference_losses(scoring):
    """-log of the probability of each prompt's own answer among what it competes with, from probabilities."""
    losses = []
    for prompt, row in enumerate(LOGITS):
        weights = [math.exp(logit) for logit in row]
        positive_ids, negative_ids = ANSWERS[scoring][prompt % 2]
        positive = sum(weights[i] for i in positive_ids if i >= 0)
        negative = sum(weights[i] for i in negative_ids if i >= 0)
        total = sum(weights) if scoring is Scoring.complement else positive + negative
        right = positive if prompt < 2 else total - positive
        losses.append(-math.log(right / total))
    return torch.tensor(losses, dtype=torch.float64)


@pytest.mark.parametrize("scoring", Scoring)
def test_losses_equal_the_reference(scoring):
    difference = answer_difference(torch.tensor(LOGITS, dtype=torch.float64), a_batch(scoring))
    torch.testing.assert_close(task_losses(difference), reference_losses(scoring), rtol=1e-12, atol=1e-12)
    assert task_accuracy(difference) == (reference_losses(scoring) < math.log(2)).double().mean().item()


@pytest.mark.parametrize("scoring", Scoring)
def test_gradients_are_exact(scoring):
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: task_losses(answer_difference(x, a_batch(scoring))), logits)


def test_tokens_outside_both_answers_do_not_count_in_pair_scoring():
    logits = torch.tensor(LOGITS, requires_grad=True)
    answer_difference(logits, a_batch(Scoring.pair)).sum().backward()
    assert (logits.grad != 0).int().tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]] * 2


def test_margins_turn_the_negative_half_around():
    difference = torch.tensor([2.0, -1.0, -3.0, 0.0])
    assert right_margins(difference).tolist() == [2.0, -1.0, 3.0, 0.0]
    assert task_accuracy(difference) == 0.5  # a tie is a miss


def test_swapping_the_sides_turns_the_difference_around():
    batch = a_batch(Scoring.prefix_set)
    swapped = PairBatch(batch.tokens, batch.last, batch.answers.flip(1), batch.scoring)
    torch.testing.assert_close(
        answer_difference(torch.tensor(LOGITS), swapped), -answer_difference(torch.tensor(LOGITS), batch)
    )


def test_bfloat16_logits_are_compared_in_float32():
    logits = torch.tensor(LOGITS, dtype=torch.bfloat16)
    assert answer_difference(logits, a_batch(Scoring.prefix_set)).dtype == torch.float32


def test_huge_margins_stay_finite():
    assert task_losses(torch.tensor([1e4, -1e4])).tolist() == [0.0, 0.0]
    assert task_losses(torch.tensor([-1e4, 1e4])).tolist() == [1e4, 1e4]


@pytest.mark.parametrize("scoring", Scoring)
def test_probabilities_of_both_answers_among_all_tokens(scoring):
    found = answer_probabilities(torch.tensor(LOGITS, dtype=torch.float64), a_batch(scoring))
    for prompt, row in enumerate(LOGITS):
        weights = [math.exp(logit) / sum(map(math.exp, row)) for logit in row]
        positive, negative = (sum(weights[i] for i in ids if i >= 0) for ids in ANSWERS[scoring][prompt % 2])
        negative = 1 - positive if scoring is Scoring.complement else negative
        own_first = [positive, negative] if prompt < 2 else [negative, positive]
        assert found[prompt].tolist() == pytest.approx(own_first)
