import json
import math

import pytest
import torch

from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.tasks.doctor import Verdict, examine
from sparse_circuits.tasks.task import Pair, Task

N_PAIRS = 24


def examine_one(task, tokenizer, **options):
    (diagnosis,) = examine([task], tokenizer, **{"n_pairs": N_PAIRS, **options})
    return diagnosis


def bigram_of(tokenizer, *pairs):
    table = torch.zeros(tokenizer.d_vocab, tokenizer.d_vocab)
    for before, after in (tokenizer.encode(pair) for pair in pairs):
        table[before, after] = 5.0
    return table.__getitem__


def test_a_model_knows_one_task_and_not_the_other(bracket_task, angle_task, bracket_model, byte_tokenizer):
    known, unknown = examine([bracket_task, angle_task], byte_tokenizer, model=bracket_model, n_pairs=N_PAIRS)
    assert (known.task, known.verdict) == ("bracket", Verdict.known)
    assert (unknown.task, unknown.verdict) == ("angle", Verdict.unknown)
    assert known.evaluation.margin == 9.0
    assert unknown.evaluation.loss == pytest.approx(math.log(2))


def test_a_bigram_table_that_answers_alone_is_found(last_token_task, bracket_model, byte_tokenizer):
    bigram = bigram_of(byte_tokenizer, "<>", "[]")
    for model in (bracket_model, None):
        diagnosis = examine_one(last_token_task, byte_tokenizer, model=model, bigram=bigram)
        assert diagnosis.verdict is Verdict.bigram
        assert 0 < diagnosis.bigram_loss < math.log1p(math.exp(-5.0))


def test_a_bigram_table_that_does_not_answer_leaves_the_verdict_to_the_model(bracket_task, bracket_model, byte_tokenizer):
    diagnosis = examine_one(bracket_task, byte_tokenizer, model=bracket_model, bigram=bigram_of(byte_tokenizer, "<>", "[]"))
    assert diagnosis.verdict is Verdict.known
    assert diagnosis.bigram_loss == pytest.approx(math.log(2), abs=1e-3)


def test_without_a_model_a_fair_task_is_unscored(bracket_task, byte_tokenizer):
    diagnosis = examine_one(bracket_task, byte_tokenizer)
    assert diagnosis.verdict is Verdict.unscored
    assert diagnosis.evaluation is diagnosis.bigram_loss is None


def test_a_task_with_too_few_pairs_is_invalid_with_the_reasons(bracket_model, byte_tokenizer):
    task = Task("few", "three pairs", lambda draw: Pair(draw.choice("abc") + "(", "x[", ")", "]", ()))
    diagnosis = examine_one(task, byte_tokenizer, model=bracket_model)
    assert diagnosis.verdict is Verdict.invalid
    assert diagnosis.evaluation is None
    assert diagnosis.text.n_pairs == 3
    assert diagnosis.text.dropped == {"duplicate": diagnosis.text.n_draws - 3}


def test_a_task_without_any_pair_is_invalid(byte_tokenizer):
    diagnosis = examine_one(Task("none", "no pair", lambda draw: Pair("a", "bc", "1", "2", ())), byte_tokenizer)
    assert diagnosis.verdict is Verdict.invalid
    assert (diagnosis.text.n_tokens_min, diagnosis.text.n_tokens_max) == (0, 0)
    assert diagnosis.text.positive_answers == ()
    assert set(diagnosis.text.dropped) == {"unequal_length"}


def test_the_text_is_described(byte_tokenizer):
    texts = iter(["a", "bb", "ccc"] * 2)  # the doctor then draws from train, as often

    def generate(draw):
        text = next(texts) + ("" if draw.split is Split.train else "!")
        return Pair(f"({text}", f"[{text}", ")" if "a" in text else ";", "]", (text[0], text))

    text = examine_one(Task("three", "three pairs", generate), byte_tokenizer, n_pairs=3, split=Split.held_out).text
    assert (text.n_pairs, text.n_draws, text.dropped) == (3, 3, {})
    assert (text.n_tokens_min, text.n_tokens_max) == (3, 5)
    assert (text.positive_answers, text.negative_answers) == ((";", ")"), ("]",))
    assert (text.n_fillers, text.n_train_fillers) == (6, 3)


def test_a_model_of_another_vocabulary_is_refused(bracket_task, byte_tokenizer):
    with pytest.raises(UserError, match="tokenizer"):
        examine([bracket_task], byte_tokenizer, model=lambda tokens, *, at: torch.zeros(len(tokens), 99))


def test_a_diagnosis_becomes_one_flat_row_of_json(bracket_task, bracket_model, byte_tokenizer):
    row = examine_one(bracket_task, byte_tokenizer, model=bracket_model).to_dict()
    assert json.loads(json.dumps(row))["verdict"] == "known"
    assert (row["scoring"], row["margin"], row["bigram_loss"], row["n_pairs"]) == ("pair", 9.0, None, N_PAIRS)
    unscored = examine_one(bracket_task, byte_tokenizer).to_dict()
    assert unscored.keys() == row.keys()
    assert unscored["loss"] is None
