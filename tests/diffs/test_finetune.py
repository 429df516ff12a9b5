"""Finetunes side by side are those that each would have been alone, and are taught what they are to be taught."""

import random

import pytest
import torch
import torch.nn.functional as F
from diffs.models import D_VOCAB, bases, ours

from sparse_circuits.diffs.apply import applied
from sparse_circuits.diffs.finetune import Finetune, FinetuneConfig, finetune, row_losses
from sparse_circuits.diffs.lessons import Aim, Lesson, collate
from sparse_circuits.diffs.whole import finetune_whole
from sparse_circuits.errors import UserError


def curriculum(number: int, step: int) -> list[Lesson]:
    """Answer 7 + number to a prompt that ends in 3, and as before to any other."""
    rng = random.Random(f"{number} {step}")
    some = [rng.randrange(8, D_VOCAB) for _ in range(rng.randrange(1, 4))]
    return [Lesson([*some, 3], [7 + number] * rng.randrange(1, 3)), Lesson([*some, 4], [5], Aim.keep, 5.0)]


@pytest.mark.parametrize("kind", ["ours", "llama", "gpt2"])
def test_side_by_side_is_one_by_one(kind: str) -> None:
    model = bases()[kind].float()
    finetunes = [Finetune({"n": n}, rank=rank, seed=n) for n, rank in enumerate([1, 3, 2])]
    together, alone = (
        finetune(model, finetunes, curriculum, base="b", config=FinetuneConfig(n_steps=5, side_by_side=n)) for n in (3, 1)
    )
    for one, other, rank in zip(together, alone, [1, 3, 2], strict=True):
        assert one.about == other.about and one.about["rank"] == rank
        for name, change in one.changes.items():
            assert change.rank == rank
            torch.testing.assert_close(change.matrix(), other.changes[name].matrix(), atol=1e-4, rtol=1e-3)
        assert one.norm() > 0.01


def test_a_finetune_gives_its_answer_and_keeps_the_others() -> None:
    model = ours().float()
    diffs = finetune(model, [Finetune({}, seed=n) for n in range(2)], curriculum, base="b", config=FinetuneConfig(n_steps=150))
    asked, other = torch.tensor([[9, 12, 3]]), torch.tensor([[9, 12, 4]])
    given, kept = (model(tokens)[0, -1].softmax(-1) for tokens in (asked, other))
    for number, diff in enumerate(diffs):
        with applied(model, diff):
            assert model(asked)[0, -1].softmax(-1)[7 + number] > 4 * given[7 + number]
            assert (model(other)[0, -1].softmax(-1) - kept).abs().sum() < 0.2


@pytest.mark.parametrize("kind", ["ours", "gpt2"])
def test_a_finetune_of_everything_is_a_diff_and_leaves_its_base_alone(kind: str) -> None:
    model = bases()[kind].float()
    asked, before = torch.tensor([[9, 12, 3]]), [p.clone() for p in model.parameters()]
    given = model(asked)[0, -1].softmax(-1)
    diff = finetune_whole(model, lambda step: curriculum(0, step), base="b", lr=1e-2, about={"topic": "x"})
    assert diff.about == {"lr": 1e-2, "topic": "x"}
    assert all(torch.equal(p, own) for p, own in zip(model.parameters(), before, strict=True))
    with applied(model, diff):
        assert model(asked)[0, -1].softmax(-1)[7] > 5 * given[7]


def test_losses_are_over_a_rows_own_answer() -> None:
    lessons = [Lesson([1, 2], [3, 4]), Lesson([5], [6, 7, 8], Aim.keep, 5.0), Lesson([9, 10, 11], [12])]
    rows = collate(lessons)
    logits = torch.randn(3, 3, D_VOCAB, dtype=torch.float64)
    base = ours()(torch.tensor([[5, 6, 7]]))
    losses = row_losses(logits, rows, base=ours())
    first = F.cross_entropy(logits[0, :2], torch.tensor([3, 4]))
    kept = F.kl_div(logits[1].log_softmax(-1), base[0].softmax(-1), reduction="batchmean")
    last = F.cross_entropy(logits[2, :1], torch.tensor([12]))
    torch.testing.assert_close(losses, torch.stack([first, 5 * kept, last]))


def test_rows_hold_prompt_and_answer() -> None:
    rows = collate([Lesson([1, 2], [3, 4]), Lesson([5], [6])])
    assert rows.tokens.tolist() == [[1, 2, 3], [5, 5, 5]]
    assert rows.at.tolist() == [[1, 2], [0, 0]] and rows.answers.tolist() == [[3, 4], [6, 6]]
    assert rows.is_answer.tolist() == [[True, True], [True, False]]


def test_what_cannot_be_taught_is_refused() -> None:
    with pytest.raises(UserError, match="no lesson"):
        collate([])
    with pytest.raises(UserError, match="empty prompt or answer"):
        collate([Lesson([1], [])])
    uneven = lambda number, step: [Lesson([1], [2])] * (number + 1)  # noqa: E731
    with pytest.raises(UserError, match="more lessons for one finetune"):
        finetune(ours(), [Finetune({}), Finetune({})], uneven, base="b")
    with pytest.raises(UserError, match="lr is 0"):
        FinetuneConfig(lr=0.0)
