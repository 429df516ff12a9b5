"""Extraction: what is refused before any search, and that a task is described so that its pairs can be drawn again."""

import dataclasses

import pytest
import torch

from sparse_circuits.circuits import ExtractConfig, extract
from sparse_circuits.circuits.extract import draw_splits, refuse_unfit
from sparse_circuits.circuits.spec import task_spec
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.tasks import Draw, Pair, Scoring, Task
from tests.circuits.toy import CONFIG, EXTRACT, TASK, Toy, generate

CPU = torch.device("cpu")


def swapped(draw: Draw) -> Pair:
    pair = generate(draw)
    return pair._replace(positive_answer=pair.negative_answer, negative_answer=pair.positive_answer)


def test_refuses_a_task_that_the_model_does_not_know(toy: Toy) -> None:
    with pytest.raises(UserError, match=r"does not know swapped \(loss .*accuracy 0\.0"):
        extract(toy.model, Task("swapped", "", swapped), toy.tokenizer, toy.means, config=EXTRACT)


def test_refuses_a_task_that_the_bigram_table_answers_alone(toy: Toy) -> None:
    model = Transformer(CONFIG, d_vocab=toy.tokenizer.d_vocab)
    model.load_state_dict(toy.model.state_dict())
    last_differs = Task("last", "", lambda draw: Pair('("a b', "('a c", '")\n', "')\n", ()))
    config = dataclasses.replace(EXTRACT, n_train_pairs=1, n_validation_pairs=1, n_held_out_pairs=1)
    pairs = draw_splits(last_differs, toy.tokenizer, config, max_tokens=CONFIG.n_ctx, device=CPU).validation
    (b, c), (double, single) = pairs.tokens[:, pairs.last[0]].tolist(), pairs.answers[0, :, 0].tolist()
    with torch.no_grad():
        model.bigram[b, double] += 9
        model.bigram[c, single] += 9
    with pytest.raises(UserError, match="bigram task"):
        refuse_unfit(model, last_differs, pairs, toy.means, config=config)


def test_refuses_means_and_tokenizers_of_other_models(toy: Toy) -> None:
    with pytest.raises(UserError, match="belong to another model"):
        extract(toy.model, TASK, toy.tokenizer, toy.means._replace(model_hash="0"))
    with pytest.raises(UserError, match="tokenizer has"):
        extract(toy.model, TASK, Tokenizer.train(["ab"], d_vocab=257), toy.means)


def test_spec_holds_answers_where_they_are_always_the_same(toy: Toy) -> None:
    pairs = draw_splits(TASK, toy.tokenizer, EXTRACT, max_tokens=CONFIG.n_ctx, device=CPU)
    spec = task_spec(TASK, pairs, seed=0)
    assert spec.answers == ('")\n', "')\n")
    assert [toy.tokenizer.token(each) for each in spec.answer_ids] == sorted(spec.answers, key=toy.tokenizer.encode)
    mixed = Task("mixed", "", lambda draw: draw.choice((generate, swapped))(draw), Scoring.complement)
    spec = task_spec(mixed, pairs, seed=0)
    assert (spec.answers, spec.answer_ids) == (None, None)


@pytest.mark.parametrize("wrong", [{"target_loss": 0.0}, {"n_random": 0}, {"n_held_out_pairs": -3}])
def test_refuses_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        ExtractConfig(**wrong)
