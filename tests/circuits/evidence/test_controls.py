"""Controls: nonsense is the task with some answers swapped and nothing else, and a shuffled model keeps its weights' values."""

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits import measure_means
from sparse_circuits.circuits.evidence.controls import coin_assigned, means_on_sample, random_weights, swap_where, swapped
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.sampler import TaskPairs
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.model import ModelConfig, Transformer, node_sites, record
from sparse_circuits.tasks import Draw, Pair, PairBatch, Scoring, Split, Task, encode_pairs, task_losses

CONFIG = ModelConfig(n_layers=2, d_model=16, n_ctx=8, d_head=4)


@pytest.fixture
def model() -> Transformer:
    model = Transformer(CONFIG, d_vocab=30).double().requires_grad_(False)
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and name != "bigram":
            weight.mul_(torch.rand_like(weight) < 0.3)
        if name.endswith(("gain", "sink", "bias")):
            weight.normal_()
    return model


def random_pairs(scoring: Scoring) -> PairBatch:
    last, n_ids = torch.randint(8, (20,)).repeat(2), 3 if scoring is Scoring.prefix_set else 1
    return PairBatch(torch.randint(30, (40, 8)), last, torch.randint(30, (20, 2, n_ids)), scoring)


@pytest.mark.parametrize("scoring", Scoring)
def test_swapped_pairs_ask_for_the_opposite_answers(model: Transformer, scoring: Scoring) -> None:
    """A prompt asked for the other's answer: its margin changes its sign, and so its loss is that of the opposite."""
    batch, coin = random_pairs(scoring), torch.rand(20) < 0.4
    margin = answer_margins(model, batch)
    found = task_losses(answer_margins(model, swap_where(batch, coin))).view(2, -1)
    right, wrong = task_losses(margin).view(2, -1), task_losses(-margin).view(2, -1)
    torch.testing.assert_close(found[:, ~coin], right[:, ~coin])
    torch.testing.assert_close(found[:, coin], wrong.flip(0)[:, coin])
    assert not torch.allclose(right, wrong.flip(0), atol=1e-3)


def test_swapping_everything_twice_changes_nothing() -> None:
    pairs = TaskPairs(*(random_pairs(Scoring.pair) for _ in range(3)))
    once, twice = swapped(pairs), swapped(swapped(pairs))
    for batch, other, same in zip(pairs, once, twice, strict=True):
        assert torch.equal(other.tokens, batch.tokens.view(2, 20, 8).flip(0).flatten(0, 1))
        assert torch.equal(other.answers, batch.answers) and torch.equal(same.tokens, batch.tokens)


HEADS = ("if", "for", "while", "x")


def generate(draw: Draw) -> Pair:
    """Prompts of eight families: four heads at two depths."""
    second = f"{' ' * 4 * draw.number(0, 1)}{draw.choice(HEADS)} {draw.choice('abcdefgh')}"
    first = "".join(draw.choice("mnop") for _ in range(3))
    return Pair(f"{first}a\n{second}", f"{first}b\n{second}", "+", "-", ())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["ab"], d_vocab=257)


@pytest.fixture(scope="module")
def drawn(tokenizer: Tokenizer) -> TaskPairs:
    task = Task("families", "", generate)
    return TaskPairs(*(encode_pairs(task, tokenizer, split=split, n_pairs=60, seed=0) for split in Split))


def coins(before: TaskPairs, after: TaskPairs, tokenizer: Tokenizer) -> list[dict[tuple[int, str], set[bool]]]:
    """Return for every split which of its families are swapped, read off the text and the answers of the prompts."""
    found = []
    for old, new in zip(before, after, strict=True):
        families: dict[tuple[int, str], set[bool]] = {}
        for index in range(old.n_pairs):
            line = tokenizer.decode(old.tokens[index].tolist()).split("\n")[1]
            family = len(line) - len(line.lstrip()), line.split()[0]
            families.setdefault(family, set()).add(not torch.equal(old.tokens[index], new.tokens[index]))
        found.append(families)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_coin_falls_alike_for_a_family_in_all_splits_and_for_half_of_them(
    drawn: TaskPairs, tokenizer: Tokenizer, seed: int
) -> None:
    train, validation, held_out = coins(drawn, coin_assigned(drawn, tokenizer, seed=seed), tokenizer)
    assert train == validation == held_out and len(train) == 2 * len(HEADS)
    assert all(len(coin) == 1 for coin in train.values())
    assert sum(coin == {True} for coin in train.values()) == len(HEADS)


def test_coins_differ_from_seed_to_seed_and_are_the_same_again(drawn: TaskPairs, tokenizer: Tokenizer) -> None:
    def chosen(seed: int) -> list[Tensor]:
        return [batch.tokens for batch in coin_assigned(drawn, tokenizer, seed=seed)]

    assert all(torch.equal(a, b) for a, b in zip(chosen(1), chosen(1), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(chosen(1), chosen(2), strict=True))


def test_shuffled_weights_are_the_same_values_at_other_places(model: Transformer) -> None:
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    found, again, other = (dict(random_weights(model, seed=seed).named_parameters()) for seed in (0, 0, 1))
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]), name
        assert torch.equal(found[name].flatten().sort().values, weight.flatten().sort().values), name
        assert torch.equal(found[name], again[name]), name
        is_shuffled = name.endswith(("weight", "bias"))
        assert torch.equal(found[name], weight) is not is_shuffled, name
        assert torch.equal(found[name], other[name]) is not is_shuffled, name
        if is_shuffled and weight.ndim == 2:
            assert 0 < found[name].count_nonzero() == weight.count_nonzero() < weight.numel(), name


def test_means_over_a_sample_are_those_of_one_plain_pass(model: Transformer) -> None:
    sample = torch.randint(30, (6, 8), dtype=torch.int32)
    means, values = means_on_sample(model, sample), record(model, sample, node_sites(CONFIG))
    torch.testing.assert_close(means.sites, {site: value.mean((0, 1)) for site, value in values.items()})
    assert means.n_tokens == 48 and torch.equal(means.sample, sample)


def test_a_models_own_means_come_back_from_their_sample(model: Transformer) -> None:
    class Rows:
        def next_batch(self) -> Tensor:
            return torch.arange(27).view(3, 9)

    measured = measure_means(model, Rows(), n_tokens=24)
    again = means_on_sample(model, measured.sample)
    torch.testing.assert_close(again.sites, measured.sites)
    assert again.model_hash == measured.model_hash
