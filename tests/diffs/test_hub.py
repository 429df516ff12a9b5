"""Finetunes put together: a sum of factors, with weights that a few examples choose."""

import pytest
import torch
from diffs.models import ours
from diffs.test_adapter import written

from sparse_circuits.diffs.apply import applied
from sparse_circuits.diffs.finetune import Finetune, FinetuneConfig, finetune
from sparse_circuits.diffs.hub import combine, learn_weights
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.weight_diff import WeightDiff, Whole
from sparse_circuits.errors import UserError


def test_factors_are_added_not_products() -> None:
    one, two = written(ours(), 1), written(ours(), 2)
    found = combine([one, two], [0.5, -2.0])
    for name, change in found.changes.items():
        up = 0.5 * one.changes[name].up - 2 * two.changes[name].up
        torch.testing.assert_close(change.matrix(), up @ (0.5 * one.changes[name].down - 2 * two.changes[name].down))
    assert found.about == {"weights": [0.5, -2.0]}


def test_a_few_examples_choose_the_finetune_that_knows_them() -> None:
    model = ours().float()
    lessons = {n: [Lesson([8 + k, 3], [7 + n]) for k in range(6)] for n in range(3)}
    diffs = finetune(
        model, [Finetune({}, seed=n) for n in range(3)], lambda n, _: lessons[n], base="b", config=FinetuneConfig(n_steps=40)
    )
    found = learn_weights(model, diffs, lessons[1][:3], n_evaluations=60)
    assert found.weights[1] > 0.5 and found.weights[1] > max(found.weights[0], found.weights[2])
    asked = torch.tensor([lesson.prompt for lesson in lessons[1][3:]])
    with applied(model, combine(diffs, [1 / 3] * 3)):
        equal = model(asked)[:, -1].log_softmax(-1)[:, 8].mean()
    with applied(model, found.diff):
        assert model(asked)[:, -1].log_softmax(-1)[:, 8].mean() > equal + 0.2


def test_what_cannot_be_added_is_refused() -> None:
    one = written(ours(), 1)
    with pytest.raises(UserError, match="nothing to put together"):
        combine([], [])
    with pytest.raises(UserError, match="change the same maps"):
        combine([one, WeightDiff({"norm.gain": Whole(torch.ones(16))}, "b")], [1.0, 1.0])
    with pytest.raises(UserError, match="of one rank"):
        combine([one, written(ours(), 2, rank=2)], [1.0, 1.0])
