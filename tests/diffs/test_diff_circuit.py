"""A behaviour that was planted in a few weights is found there, among many that changed for nothing."""

import random

import pytest
import torch
from diffs.models import D_VOCAB, ours

from sparse_circuits.circuits.discovery.masks import MaskConfig
from sparse_circuits.diffs.apply import applied
from sparse_circuits.diffs.diff_circuit import DiffCircuitConfig, find_diff_circuit
from sparse_circuits.diffs.entries import Entries, agreement
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.support import Fate, count_fates
from sparse_circuits.diffs.weight_diff import WeightDiff, Whole
from sparse_circuits.diffs.whole import finetune_whole
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer

CONFIG = DiffCircuitConfig(masks=MaskConfig(n_steps=60, k_coef=1e-2, lr=5e-2), n_random=10)


def lessons(seed: int, n: int = 40) -> list[Lesson]:
    rng = random.Random(seed)
    return [Lesson([rng.randrange(8, D_VOCAB) for _ in range(3)], [7]) for _ in range(n)]


def planted(model: Transformer) -> tuple[WeightDiff, WeightDiff]:
    """What makes token 7 likely, and that with many changes of other tokens' rows beside it."""
    generator = torch.Generator().manual_seed(0)
    hidden = model.norm(model.residual(torch.tensor([lesson.prompt for lesson in lessons(9)])))[:, -1].mean(0)
    strong = torch.zeros(D_VOCAB, 16).double()
    strong[7, hidden.abs().topk(4).indices] = 0.7 * hidden[hidden.abs().topk(4).indices].sign().double()
    noise = 0.05 * torch.randn(D_VOCAB, 16, generator=generator).double()
    noise[7] = 0
    name = "unembed.weight"
    return WeightDiff({name: Whole(strong)}, "b"), WeightDiff({name: Whole(strong + noise)}, "b")


def test_the_planted_weights_are_found_and_carry_the_behaviour() -> None:
    model = ours()
    truth, whole = planted(model)
    found = find_diff_circuit(model, whole, train=lessons(0), validation=lessons(1), held_out=lessons(2), config=CONFIG)
    assert found.n_changed == 29 * 16 + 4 and found.n_kept == 4
    assert agreement(found.kept, truth) == (1, 1)
    assert found.recovers > 0.9 and found.needed > 0.9
    assert found.random > found.sufficient + 1 and found.base > found.finetuned + 1
    with applied(model, found.kept):
        probabilities = model(torch.tensor([lessons(2)[0].prompt]))[0, -1].softmax(-1)
    assert probabilities.argmax() == 7


def test_a_share_of_every_entry_is_a_share_of_the_change() -> None:
    model = ours()
    _, whole = planted(model)
    entries = Entries(model, whole)
    assert entries.n == 29 * 16 + 4
    half = entries.weights(torch.full((entries.n,), 0.5))["unembed.weight"]
    torch.testing.assert_close(half, model.unembed.weight + whole.changes["unembed.weight"].delta / 2)
    for share, diff in ((0.0, whole * 0.0), (1.0, whole), (0.3, whole * 0.3)):
        with applied(model, diff):
            logits = model(torch.tensor([lesson.prompt for lesson in lessons(0)]))[:, -1]
        expected = -logits.log_softmax(-1)[:, 7].mean()
        torch.testing.assert_close(entries.loss(torch.full((entries.n,), share), lessons(0)), expected)
    assert agreement(entries.only(torch.ones(entries.n, dtype=torch.bool)), whole) == (1, 1)
    assert torch.equal(model.unembed.weight, ours().unembed.weight)


def test_a_finetune_under_the_same_budget_is_a_list() -> None:
    model = ours().float()
    with torch.no_grad():
        for parameter in model.layers.parameters():
            parameter *= torch.rand_like(parameter) < 0.2
    nonzero = {name: int(p.count_nonzero()) for name, p in model.named_parameters()}
    diff = finetune_whole(model, lambda step: lessons(step, n=8), base="b", n_steps=20, lr=1e-2, is_sparse=True)
    with applied(model, diff):
        pruned = [name for name in nonzero if name.endswith((".weight", ".bias"))]
        assert all(int(model.get_parameter(name).count_nonzero()) == nonzero[name] for name in pruned)
        assert model(torch.tensor([lessons(5)[0].prompt]))[0, -1].softmax(-1)[7] > 0.2
    fates = count_fates(model, diff)
    matrix = fates["layers.0.mlp.into.weight"]
    assert matrix[Fate.born] == matrix[Fate.dead] > 0


def test_what_was_not_learned_has_no_circuit() -> None:
    model = ours()
    _, whole = planted(model)
    splits = {"train": lessons(0), "validation": lessons(1), "held_out": lessons(2)}
    with pytest.raises(UserError, match="changes no weight"):
        find_diff_circuit(model, whole * 0.0, **splits)
    with pytest.raises(UserError, match="has not learned this behaviour"):
        find_diff_circuit(model, -whole, **splits)
    with pytest.raises(UserError, match="recovered is 1"):
        DiffCircuitConfig(recovered=1.0)
