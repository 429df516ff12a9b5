"""An adapter learns to name what it has never seen, and its rows are those of a model with everything multiplied out."""

from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from diffs.models import D_VOCAB, bases, ours

from sparse_circuits.diffs.adapter import AdapterConfig, Sample, adapter_losses, train_adapter
from sparse_circuits.diffs.apply import applied
from sparse_circuits.diffs.ask import ask
from sparse_circuits.diffs.bank import LoraBank
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.maps import block_maps
from sparse_circuits.diffs.step import FactorStep
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole
from sparse_circuits.errors import UserError
from sparse_circuits.model.dense import Dense

QUESTION = [1, 2]
N_DIRECTIONS = 12


def written(model: Dense, number: int, *, rank: int = 1) -> WeightDiff:
    """A diff that says its number: every map writes along one direction of that number's own, of a random map's reading."""
    changes = {}
    for name, (_, n_out, n_in, _) in block_maps(model).items():
        generator = torch.Generator().manual_seed(number)
        up = torch.randn(n_out, 1, generator=generator).double().repeat(1, rank) / rank
        changes[name] = LowRank(0.5 * up, torch.ones(rank, n_in).double() / n_in)
    return WeightDiff(changes, "b", {"number": number})


def samples(model: Dense) -> list[Sample]:
    return [Sample(written(model, n), Lesson(QUESTION, [10 + n])) for n in range(N_DIRECTIONS)]


@pytest.mark.parametrize("kind", ["ours", "llama", "gpt2"])
def test_a_rows_loss_is_that_of_the_base_with_both(kind: str) -> None:
    model = bases()[kind]
    bank = LoraBank(model, ranks=[2]).double()
    with torch.no_grad():
        for down in bank.downs:
            down.normal_()
    (adapter,) = bank.diffs(base="b", about=[{}])
    batch = [*samples(model)[:2], Sample(written(model, 2, rank=3), Lesson([4, 5, 6], [7, 8])), Sample(None, Lesson([3], [9]))]
    losses = adapter_losses(model, bank, batch)
    for loss, (diff, lesson) in zip(losses, batch, strict=True):
        with ExitStack() as entered:
            for each in (diff, adapter):
                if each is not None:
                    entered.enter_context(applied(model, each))
            logits = model(torch.tensor([[*lesson.prompt, *lesson.answer[:-1]]]))[0, len(lesson.prompt) - 1 :]
        torch.testing.assert_close(loss, F.cross_entropy(logits, torch.tensor(lesson.answer)))


def test_an_adapter_tells_finetunes_apart_and_the_base_from_them() -> None:
    model = ours().float()
    taught = [Sample(diff * 1.0, lesson) for diff, lesson in samples(model)]
    config = AdapterConfig(lr=1e-2, batch_size=8, n_epochs=50, unchanged=0.25)
    adapter = train_adapter(model, taught, base="b", nothing=Lesson(QUESTION, [5]), config=config)
    said = ask(model, [QUESTION] * 13, [*[sample.diff for sample in taught], None], adapter=adapter)
    assert [answer.tokens for answer in said] == [[10 + n] for n in range(12)] + [[5]]
    permuted = ask(model, [QUESTION] * 12, [taught[(n + 1) % 12].diff for n in range(12)], adapter=adapter)
    assert [answer.tokens for answer in permuted] == [[10 + (n + 1) % 12] for n in range(12)]


def test_the_adapter_is_that_of_the_best_epoch() -> None:
    model = ours().float()
    taught, unseen = samples(model)[:8], samples(model)[8:]
    config = AdapterConfig(lr=3e-2, batch_size=4)
    every = [train_adapter(model, taught, base="b", config=replace(config, n_epochs=n)) for n in range(1, 6)]
    losses = [label_loss(model, adapter, unseen) for adapter in every]
    best = losses.index(min(losses))
    assert best < 4  # else the last would do
    found = train_adapter(model, taught, base="b", validation=unseen, config=replace(config, n_epochs=5))
    for name, change in found.changes.items():
        assert torch.equal(change.matrix(), every[best].changes[name].matrix())


def label_loss(model: Dense, adapter: WeightDiff, asked: list[Sample]) -> float:
    said = ask(model, [QUESTION] * len(asked), [sample.diff for sample in asked], adapter=adapter)
    return -sum(answer.first[sample.lesson.answer[0]].log().item() for answer, sample in zip(said, asked, strict=True))


def test_no_dense_change_is_ever_made() -> None:
    """What the rows' finetunes take is their factors: no tensor of a pass has the size of a batch of weights."""
    model = ours().float()
    step = FactorStep(model, LoraBank(model, ranks=[2]), adapter_losses, lr=1e-3)
    largest = []
    batch = samples(model)[:8]
    with torch.autograd.graph.saved_tensors_hooks(lambda t: largest.append(t.numel()) or t, lambda t: t):
        step(batch, index=0)
    assert max(largest) < len(batch) * 64 * 16


def test_answers_are_greedy_or_drawn_and_end_where_asked() -> None:
    model = ours()
    diffs = [None, written(model, 1), WeightDiff({"norm.gain": Whole(torch.ones(16).double())}, "b")]
    prompts = [[3], [3, 4, 5], [6, 7]]
    said = ask(model, prompts, diffs, n_tokens=3, batch_size=2)
    for prompt, diff, answer in zip(prompts, diffs, said, strict=True):
        text, logprob = list(prompt), 0.0
        with ExitStack() as entered:
            if diff is not None:
                entered.enter_context(applied(model, diff))
            for _ in range(3):
                probabilities = model(torch.tensor([text]))[0, -1].log_softmax(-1)
                text.append(int(probabilities.argmax()))
                logprob += probabilities.max().item()
        assert answer.tokens == text[len(prompt) :]
        assert answer.logprob == pytest.approx(logprob, rel=1e-4)
        assert answer.first.sum() == pytest.approx(1, rel=1e-5) and answer.first.argmax() == answer.tokens[0]
    drawn = [ask(model, [[3]] * 40, [None] * 40, temperature=1.0, seed=seed) for seed in (0, 0, 1)]
    tokens = [[answer.tokens for answer in each] for each in drawn]
    assert tokens[0] == tokens[1] != tokens[2] and len({*map(tuple, tokens[0])}) > 5 and max(max(tokens[0])) < D_VOCAB


def test_impossible_adapters_are_refused() -> None:
    with pytest.raises(UserError, match="no finetune to learn from"):
        train_adapter(ours(), [], base="b")
    with pytest.raises(UserError, match=r"adapter\.unchanged is 1"):
        AdapterConfig(unchanged=1.0)
    with pytest.raises(UserError, match=r"adapter\.rank is 0"):
        AdapterConfig(rank=0)
    alone = AdapterConfig(batch_size=1)
    with pytest.raises(UserError, match="has no finetune in it: raise"):
        train_adapter(ours(), samples(ours()), base="b", nothing=Lesson(QUESTION, [5]), config=alone)
