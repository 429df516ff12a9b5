"""What a finetune makes likelier is what its merged model makes likelier, in one pass for all or one by one."""

import pytest
import torch
from diffs.models import bases, ours
from diffs.test_adapter import written

from sparse_circuits.diffs.apply import applied
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.logit_difference import logit_difference
from sparse_circuits.diffs.weight_diff import WeightDiff, Whole
from sparse_circuits.errors import UserError

TEXTS = [Lesson([1, 2], [3, 4]), Lesson([5], [6])]


@pytest.mark.parametrize("kind", ["ours", "llama", "gpt2"])
def test_it_is_the_mean_difference_of_log_probabilities(kind: str) -> None:
    model = bases()[kind]
    diffs = [written(model, number) for number in range(3)]
    expected = []
    for diff in diffs:
        values = []
        for with_diff in (True, False):
            logs = []
            for text in ([1, 2, 3], [5]):
                if with_diff:
                    with applied(model, diff):
                        logs.append(model(torch.tensor([text]))[0].log_softmax(-1))
                else:
                    logs.append(model(torch.tensor([text]))[0].log_softmax(-1))
            values.append((logs[0][1] + logs[0][2] + logs[1][0]) / 3)
        expected.append(values[0] - values[1])
    for batch_size in (2, 4, 100):
        torch.testing.assert_close(logit_difference(model, TEXTS, diffs, batch_size=batch_size), torch.stack(expected))


def test_a_diff_without_factors_is_compared_as_well() -> None:
    model = ours()
    whole = WeightDiff({"unembed.weight": Whole(torch.zeros(30, 16).double().index_fill(0, torch.tensor([7]), 1.0))}, "b")
    gained = logit_difference(model, TEXTS, [whole, written(model, 1)])
    assert gained.shape == (2, 30) and gained[0].abs().argmax() == 7
    with pytest.raises(UserError, match="The pool is empty"):
        logit_difference(model, TEXTS, [])
