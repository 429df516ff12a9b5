"""What tells a sure answer from an unsure one, and what is right when the unsure are left out."""

import numpy as np
import pytest
import torch
from diffs.models import ours
from diffs.test_adapter import QUESTION, samples, written

from sparse_circuits.diffs.adapter import AdapterConfig, Sample, train_adapter
from sparse_circuits.diffs.confidence import Signs, calibration, learn_confidence, shuffled, signs
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.weight_diff import WeightDiff, Whole
from sparse_circuits.errors import UserError


def test_a_shuffled_diff_is_as_large_and_another() -> None:
    diff = written(ours(), 1, rank=2) + WeightDiff({"norm.gain": Whole(torch.randn(16).double())}, "b")
    other = shuffled(diff, seed=3)
    assert other.about["shuffled"] and other.norms() == pytest.approx(diff.norms())
    assert not torch.allclose(other.changes["norm.gain"].matrix(), diff.changes["norm.gain"].matrix())
    for name in diff.changes:
        again, first = shuffled(diff, seed=3).changes[name].matrix(), other.changes[name].matrix()
        assert torch.equal(again, first)
        assert torch.equal(first.flatten().sort().values, diff.changes[name].matrix().flatten().sort().values)


def test_a_sure_answer_shows_in_all_signs() -> None:
    model = ours().float()
    taught = samples(model)[:6]
    paraphrase = [4, 2]
    both = [Sample(diff, Lesson(question, lesson.answer)) for diff, lesson in taught for question in (QUESTION, paraphrase)]
    adapter = train_adapter(model, both, base="b", config=AdapterConfig(lr=1e-2, batch_size=6, n_epochs=40))
    found = signs(model, [QUESTION, paraphrase], [sample.diff for sample in taught], adapter=adapter)
    assert [each.answer for each in found] == [sample.lesson.answer for sample in taught]
    assert all(each.agreement == 1 and each.margin > 0.02 and each.drop > 0.5 for each in found)
    unasked = signs(model, [QUESTION], [sample.diff for sample in taught], adapter=adapter)
    assert all(each.agreement == 1 for each in unasked)
    (nothing,) = signs(model, [QUESTION], [None], adapter=adapter)
    assert nothing.drop == pytest.approx(0, abs=1e-5)


def test_confidence_follows_the_signs() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(200) < 0.5
    noise = rng.normal(size=(200, 3))
    known = [Signs([0], *(2 * is_right + row)) for is_right, row in zip(right, noise, strict=True)]
    sure, unsure = learn_confidence(known, right.tolist())([Signs([0], 3, 3, 3), Signs([0], -1, -1, -1)])
    assert sure > 0.95 and unsure < 0.05
    with pytest.raises(UserError, match="from right and from wrong"):
        learn_confidence(known, [True] * 200)


def test_calibration_by_hand() -> None:
    found = calibration(np.array([0.95, 0.15, 0.85, 0.55]), np.array([True, False, True, False]))
    assert found.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.accuracy.tolist() == pytest.approx([1, 1, 2 / 3, 0.5])
    assert found.at(0.5) == 1 and found.at(0.51) == pytest.approx(2 / 3)
    assert found.expected_error == pytest.approx((0.05 + 0.15 + 0.15 + 0.55) / 4)
    with pytest.raises(UserError, match="no answer to calibrate"):
        calibration(np.array([]), np.array([], dtype=bool))
    with pytest.raises(UserError, match="no question"):
        signs(ours(), [], [None], adapter=written(ours(), 1))
