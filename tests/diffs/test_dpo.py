"""Preferences: the loss is that of the paper, and what is chosen becomes likelier than what is not."""

import pytest
import torch
import torch.nn.functional as F
from diffs.models import bases, ours

from sparse_circuits.diffs.apply import applied
from sparse_circuits.diffs.bank import LoraBank
from sparse_circuits.diffs.dpo import BETA, Preference, preference_losses
from sparse_circuits.diffs.finetune import Finetune, FinetuneConfig, finetune

PAIRS = [Preference([1, 2], [3, 4], [5]), Preference([6], [7], [8, 9, 10])]


def logprob(model: torch.nn.Module, prompt: list[int], answer: list[int]) -> torch.Tensor:
    logs = model(torch.tensor([[*prompt, *answer]]))[0].log_softmax(-1)
    return sum(logs[len(prompt) - 1 + place, token] for place, token in enumerate(answer))


@pytest.mark.parametrize("kind", ["ours", "gpt2"])
def test_the_loss_is_that_of_the_paper(kind: str) -> None:
    model = bases()[kind]
    bank = LoraBank(model, ranks=[1, 2]).double()
    with torch.no_grad():
        for down in bank.downs:
            down[0, :1].normal_()
            down[1].normal_()
    found = preference_losses(model, bank, PAIRS)
    assert torch.equal(preference_losses(model, LoraBank(model, ranks=[1]), PAIRS), torch.full((2,), 2.0).double().log())
    for loss, pair, diff in zip(found, PAIRS, bank.diffs(base="b", about=[{}, {}]), strict=True):
        before = [logprob(model, pair.prompt, answer) for answer in (pair.chosen, pair.rejected)]
        with applied(model, diff):
            after = [logprob(model, pair.prompt, answer) for answer in (pair.chosen, pair.rejected)]
        gain = (after[0] - before[0]) - (after[1] - before[1])
        torch.testing.assert_close(loss, -F.logsigmoid(BETA * gain))
        assert gain.abs() > 1e-3


def test_what_is_chosen_becomes_likelier() -> None:
    model = ours().float()
    config = FinetuneConfig(n_steps=30)
    swapped = [pair._replace(chosen=pair.rejected, rejected=pair.chosen) for pair in PAIRS]
    diffs = finetune(
        model,
        [Finetune({}), Finetune({})],
        lambda number, step: swapped if number else PAIRS,
        base="b",
        losses=preference_losses,
        config=config,
    )
    for diff, pairs in zip(diffs, (PAIRS, swapped), strict=True):
        for pair in pairs:
            before = logprob(model, pair.prompt, pair.chosen) - logprob(model, pair.prompt, pair.rejected)
            with applied(model, diff):
                assert logprob(model, pair.prompt, pair.chosen) - logprob(model, pair.prompt, pair.rejected) > before + 1
