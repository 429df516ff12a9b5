import math

import pytest
import torch

from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.tasks import Pair, Task
from sparse_circuits.tasks.encode import encode_pairs
from sparse_circuits.tasks.evaluate import (
    Evaluation,
    calibrated_bigram_loss,
    check_vocabulary,
    evaluate,
    evaluate_logits,
    task_evaluator,
)


def a_batch(task, tokenizer, n_pairs=10):
    return encode_pairs(task, tokenizer, split=Split.validation, n_pairs=n_pairs, seed=0)


def test_a_model_that_knows_gets_the_loss_of_its_margin(bracket_task, bracket_model, byte_tokenizer):
    result = evaluate(bracket_model, a_batch(bracket_task, byte_tokenizer))
    assert result.loss == pytest.approx(math.log1p(math.exp(-9.0)), rel=1e-5)
    assert (result.accuracy, result.margin, result.known) == (1.0, 9.0, True)


def test_a_model_that_guesses_gets_log_two(angle_task, bracket_model, byte_tokenizer):
    result = evaluate(bracket_model, a_batch(angle_task, byte_tokenizer))
    assert result.loss == pytest.approx(math.log(2))
    assert not result.known


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_batch_size_changes_nothing(batch_size, bracket_task, byte_tokenizer):
    batch = a_batch(bracket_task, byte_tokenizer)
    table = torch.randn(byte_tokenizer.d_vocab, byte_tokenizer.d_vocab)

    def model(tokens, *, at):
        return table[tokens[torch.arange(len(at)), at]]

    rows = torch.arange(len(batch.last))
    assert evaluate(model, batch, batch_size=batch_size) == evaluate_logits(table[batch.tokens[rows, batch.last]], batch)


def test_answers_are_read_at_each_prompts_own_end(last_token_task, byte_tokenizer):
    batch = a_batch(last_token_task, byte_tokenizer)
    assert batch.last.min() < batch.last.max()
    table = torch.zeros(byte_tokenizer.d_vocab, byte_tokenizer.d_vocab)
    for before, after in (byte_tokenizer.encode(pair) for pair in ("<>", "[]")):
        table[before, after] = 5.0
    assert calibrated_bigram_loss(table.__getitem__, batch) < 1e-3


def test_a_bigram_table_with_a_wrong_threshold_still_answers(last_token_task, byte_tokenizer):
    batch = a_batch(last_token_task, byte_tokenizer)
    table = torch.zeros(byte_tokenizer.d_vocab, byte_tokenizer.d_vocab)
    for before, after in (byte_tokenizer.encode(pair) for pair in ("<>", "[]")):
        table[before, after] = 5.0
    table[:, byte_tokenizer.encode("]")] += 9.0
    rows = torch.arange(len(batch.last))
    assert evaluate_logits(table[batch.tokens[rows, batch.last]], batch).loss > 1
    assert calibrated_bigram_loss(table.__getitem__, batch) < 0.01


def test_no_graph_is_kept(bracket_task, byte_tokenizer):
    seen = []

    def model(tokens, *, at):
        seen.append(torch.is_grad_enabled())
        return torch.zeros(len(tokens), byte_tokenizer.d_vocab)

    evaluate(model, a_batch(bracket_task, byte_tokenizer), batch_size=8)
    assert seen == [False] * 3


@pytest.mark.parametrize(
    ("loss", "accuracy", "known"), [(0.14, 0.95, True), (0.15, 1.0, False), (0.01, 0.94, False), (0.149, 0.99, True)]
)
def test_known_needs_both_accuracy_and_loss(loss, accuracy, known):
    assert Evaluation(loss, accuracy, margin=1.0).known is known


def test_evaluator_reports_every_task_and_counts_the_known(bracket_task, angle_task, bracket_model, byte_tokenizer):
    metrics = task_evaluator([bracket_task, angle_task], byte_tokenizer, n_pairs=8)(bracket_model)
    expected = evaluate(bracket_model, a_batch(bracket_task, byte_tokenizer, n_pairs=8))
    assert metrics == {
        "tasks/bracket/loss": expected.loss,
        "tasks/angle/loss": pytest.approx(math.log(2)),
        "tasks/bracket/accuracy": 1.0,
        "tasks/angle/accuracy": 0.0,
        "tasks/known": 1.0,
    }


def test_evaluator_draws_its_pairs_once(bracket_task, bracket_model, byte_tokenizer, monkeypatch):
    evaluator = task_evaluator([bracket_task], byte_tokenizer, n_pairs=8)
    monkeypatch.setattr("sparse_circuits.tasks.encode.encode_pair", None)
    assert evaluator(bracket_model) == evaluator(bracket_model)


def test_a_task_that_does_not_fit_stops_the_evaluator_or_is_told_and_left_out(bracket_task, bracket_model, byte_tokenizer):
    uneven = Task("uneven", "one side is longer", lambda draw: Pair("a", "bc", "1", "2", ()))
    with pytest.raises(UserError, match="uneven"):
        task_evaluator([uneven, bracket_task], byte_tokenizer, n_pairs=8)
    told = []
    metrics = task_evaluator([uneven, bracket_task], byte_tokenizer, n_pairs=8, on_unfit=told.append)(bracket_model)
    assert set(metrics) == {"tasks/bracket/loss", "tasks/bracket/accuracy", "tasks/known"}
    assert ["uneven" in str(error) for error in told] == [True]


def test_a_model_of_another_vocabulary_is_refused(byte_tokenizer, bracket_model):
    check_vocabulary(bracket_model, byte_tokenizer)
    with pytest.raises(UserError, match="257 tokens, but the model was made for 300"):
        check_vocabulary(lambda tokens, *, at: torch.zeros(len(tokens), 300), byte_tokenizer)


def test_logits_of_a_perfect_and_an_inverted_model_are_opposite(bracket_task, byte_tokenizer):
    batch = a_batch(bracket_task, byte_tokenizer)
    logits = torch.randn(2 * batch.n_pairs, byte_tokenizer.d_vocab)
    right, wrong = evaluate_logits(logits, batch), evaluate_logits(-logits, batch)
    assert right.margin == pytest.approx(-wrong.margin)
    assert right.accuracy == pytest.approx(1 - wrong.accuracy)
