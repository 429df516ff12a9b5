"""A prompt and two answers as ids: cut where the answers part, refused where they do not fit."""

import pytest

from sparse_circuits.circuits.question import encode_question
from sparse_circuits.errors import UserError
from tests.circuits.toy import Toy


def test_what_both_answers_share_joins_the_prompt(toy: Toy) -> None:
    encode = toy.tokenizer.encode
    question = encode_question('("a', (' b c"', " b d"), toy.tokenizer)
    assert list(question.positive) == list(question.negative) == encode('("a b')
    assert [question.positive_answer] == encode(" c") and [question.negative_answer] == encode(" d")


@pytest.mark.parametrize(
    ("prompt", "answers", "says"),
    [
        ("", ("a", "b"), "do not follow"),
        ("(", ('"a', "'a"), "do not follow"),
        ('("a', (" b", " b"), "answers that part"),
        ('("a', (" b", " b c"), "answers that part"),
    ],
)
def test_refuses_answers_that_merge_or_never_part(toy: Toy, prompt: str, answers: tuple[str, str], says: str) -> None:
    with pytest.raises(UserError, match=says):
        encode_question(prompt, answers, toy.tokenizer)
