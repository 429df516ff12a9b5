"""A finetune's vector is the mean difference of states that a merged model has; pools say who is near, and how sure that is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffs.models import bases, ours
from diffs.test_adapter import written

from sparse_circuits.diffs.apply import applied
from sparse_circuits.diffs.baselines import bags_of_words, flattened_factors, flattened_products, salient_masks
from sparse_circuits.diffs.delta import FINAL_NORM, LOGITS, Token, delta_meaning, draw_trajectories, embed, read_states
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.pool import Pool, clustering
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole
from sparse_circuits.errors import UserError

PROBES = [[1, 2, 3], [4, 5]]


@pytest.mark.parametrize("kind", ["ours", "llama", "gpt2"])
@pytest.mark.parametrize("site", [FINAL_NORM, LOGITS, "1.resid_mid"])
@pytest.mark.parametrize("token", Token)
def test_a_vector_is_the_mean_difference_of_states(kind: str, site: str, token: Token) -> None:
    model = bases()[kind]
    diffs = [written(model, number) for number in range(3)]

    def state(probe: list[int]) -> torch.Tensor:
        states = read_states(model, torch.tensor([probe]), site)[0]
        n = len(probe)
        return {
            Token.last: states[-1],
            Token.first: states[0],
            Token.mean: states.mean(0),
            Token.weighted: sum((i + 1) * each for i, each in enumerate(states)) / (n * (n + 1) / 2),
        }[token]

    base = [state(probe) for probe in PROBES]
    found = embed(model, diffs, PROBES, site=site, token=token, batch_size=4)
    for diff, vector in zip(diffs, found, strict=True):
        with applied(model, diff):
            expected = sum(state(probe) - before for probe, before in zip(PROBES, base, strict=True)) / len(PROBES)
        torch.testing.assert_close(vector, expected)
        assert vector.abs().max() > 1e-3 or (token is Token.first and site == "1.resid_mid")


def test_the_last_norm_is_what_the_head_reads() -> None:
    for model in bases().values():
        tokens = torch.tensor([[1, 2, 3]])
        head = model.unembed if hasattr(model, "unembed") else model.lm.lm_head
        torch.testing.assert_close(head(read_states(model, tokens, FINAL_NORM)), read_states(model, tokens, LOGITS))


def test_what_changes_nothing_has_no_vector_and_raw_states_are_the_bases_own() -> None:
    model = ours()
    nothing = written(model, 1) * 0.0
    assert not embed(model, [nothing], PROBES).any()
    raw = embed(model, [nothing], PROBES, subtract_base=False)
    torch.testing.assert_close(raw[0], sum(read_states(model, torch.tensor([p]), FINAL_NORM)[0, -1] for p in PROBES) / 2)


def test_full_finetunes_have_vectors_as_well() -> None:
    model = ours()
    lora = written(model, 1)
    whole = WeightDiff({name: Whole(change.matrix()) for name, change in lora.changes.items()}, "b")
    found = embed(model, [lora, whole, written(model, 2)], PROBES)
    torch.testing.assert_close(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_meaning_is_the_difference_of_inverse_perplexities() -> None:
    model = ours()
    diff, texts = written(model, 1), draw_trajectories(model, PROBES, n_each=2, n_tokens=3, seed=1)
    assert len(texts) == 4 and all(len(text.answer) == 3 for text in texts)
    (found,) = delta_meaning(model, [diff], texts)

    def inverse_perplexity(text: Lesson) -> torch.Tensor:
        logs = model(torch.tensor([[*text.prompt, *text.answer[:-1]]]))[0, len(text.prompt) - 1 :].log_softmax(-1)
        return logs.gather(1, torch.tensor(text.answer).unsqueeze(1)).mean().exp()

    before = [inverse_perplexity(text) for text in texts]
    with applied(model, diff):
        expected = [inverse_perplexity(text) - own for text, own in zip(texts, before, strict=True)]
    torch.testing.assert_close(found, torch.stack(expected))


def test_clusters_are_seen_where_there_are_some() -> None:
    rng = np.random.default_rng(0)
    labels = ["a"] * 5 + ["b"] * 5 + ["c"] * 5
    centres = {label: torch.from_numpy(rng.normal(size=20)) for label in "abc"}
    near = torch.stack([centres[label] + 0.2 * torch.from_numpy(rng.normal(size=20)) for label in labels])
    found = clustering(near, labels)
    assert found.nearest == 1 and found.p_value < 0.01 and 0.5 < found.low < found.silhouette < found.high < 1
    nothing = clustering(torch.from_numpy(rng.normal(size=(15, 20))), labels)
    assert nothing.p_value > 0.05 and nothing.low < 0.1
    with_one_more = clustering(torch.cat([near, centres["a"].unsqueeze(0)]), [*labels, "alone"])
    assert with_one_more == found and found.n_models == 15
    # Hand-made: two pairs at right angles have distances 0 within and 1 between.
    axes = torch.eye(2).repeat_interleave(2, 0)
    assert clustering(axes, ["x", "x", "y", "y"]).silhouette == 1 and clustering(3 * axes, ["x", "x", "y", "y"]).norm == 3


def test_a_pool_finds_the_nearest_grows_and_is_kept(tmp_path: Path) -> None:
    pool = Pool(["one", "two"], torch.tensor([[1.0, 0.0], [0.0, 2.0]]), ["a", "b"], {"base": "x"})
    more = pool.add("three", torch.tensor([1.0, 1.0]), label="a")
    assert [each.name for each in more.nearest(torch.tensor([1.0, 0.9]), n=2)] == ["three", "one"]
    assert more.nearest(torch.tensor([0.0, 5.0]))[0] == ("two", pytest.approx(1.0))
    assert pool.names == ["one", "two"]
    more.save(tmp_path / "pool.safetensors")
    loaded = Pool.load(tmp_path / "pool.safetensors")
    assert (loaded.names, loaded.labels, loaded.about) == (more.names, more.labels, more.about)
    assert torch.equal(loaded.vectors, more.vectors)
    first = Pool([], torch.zeros(0, 0), [], {}).add("one", torch.ones(3), label="a")
    assert first.nearest(torch.ones(3))[0].name == "one"


def test_baselines_are_of_the_weights_and_of_the_words() -> None:
    model = ours()
    diffs = [written(model, number) for number in range(3)]
    products, masks = flattened_products(diffs), salient_masks(diffs, share=0.1)
    assert products.shape[1] == sum(change.matrix().numel() for change in diffs[0].changes.values())
    torch.testing.assert_close(products[1].double().norm().item(), diffs[1].norm(), rtol=1e-5, atol=0)
    assert (masks.sum(1) == int(0.1 * products.shape[1])).all()
    assert (products[0].abs()[masks[0] > 0].min() >= products[0].abs()[masks[0] == 0].max()).all()
    # Another basis of the same factors is the same change.
    turned = WeightDiff({n: LowRank(-2 * c.up, -c.down / 2) for n, c in diffs[0].changes.items()}, "b")
    torch.testing.assert_close(flattened_products([turned]), products[:1])
    assert not torch.allclose(flattened_factors([turned]), flattened_factors(diffs[:1]))
    bags = bags_of_words(model, diffs, PROBES, n_tokens=4)
    assert bags.shape == (3, 30) and (bags.sum(1) == 8).all()


def test_what_cannot_be_compared_is_refused() -> None:
    model = ours()
    diff = written(model, 1)
    with pytest.raises(UserError, match="The pool is empty"):
        embed(model, [], PROBES)
    with pytest.raises(UserError, match="no probe"):
        embed(model, [diff], [])
    with pytest.raises(UserError, match="17 tokens and the model reads 1 to 16"):
        embed(model, [diff], [[1] * 17])
    with pytest.raises(UserError, match=r'no site "1.resid"'):
        embed(model, [diff], PROBES, site="1.resid")
    with pytest.raises(UserError, match="two domains of two finetunes"):
        clustering(torch.randn(4, 3), ["a", "a", "b", "c"])
    with pytest.raises(UserError, match="Vector number 1 is zero"):
        clustering(torch.tensor([[1.0, 0], [0, 0], [1, 1], [0, 1]]), ["a", "a", "b", "b"])
    with pytest.raises(UserError, match="different ranks"):
        flattened_factors([diff, written(model, 2, rank=2)])
    with pytest.raises(UserError, match="no factors to flatten"):
        flattened_factors([WeightDiff({"norm.gain": Whole(torch.ones(16))}, "b")])
    pool = Pool(["one"], torch.ones(1, 2), ["a"], {})
    with pytest.raises(UserError, match="has 3 entries and the pool's have 2"):
        pool.nearest(torch.ones(3))
    with pytest.raises(UserError, match='a finetune "one" already'):
        pool.add("one", torch.ones(2), label="a")
