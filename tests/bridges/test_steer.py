"""Steering: the scaling by a hand-worked case, what is added and where, and the curves beside their controls."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparse_circuits.bridges import Bridge
from sparse_circuits.bridges.curve import SteerConfig, draw_steering, most_pushed, steering_curves
from sparse_circuits.bridges.load import Bridged
from sparse_circuits.bridges.steer import directions, node_changes, random_directions, raw_changes, size, steer, steered
from sparse_circuits.bridges.strongest import first_order_effects, steerable, strongest_nodes
from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node, Transformer, record
from sparse_circuits.model.dense import Dense, HuggingFace, norm_at
from sparse_circuits.tasks import PairBatch, Scoring, answer_difference, right_margins
from tests.bridges.models import D_VOCAB, N_CTX

NODE = Node("1.attn.act_in", 5)


@pytest.fixture
def bridged(sparse: Transformer, dense: Dense, bridge: Bridge) -> Bridged:
    return Bridged(sparse, dense, bridge, Tokenizer.train(["def f(x):\n    return x\n"] * 3, d_vocab=257))


@pytest.fixture
def reference() -> Tensor:
    return torch.randint(D_VOCAB, (4, N_CTX))


@pytest.fixture
def pairs() -> PairBatch:
    return PairBatch(
        tokens=torch.randint(D_VOCAB, (8, 7)),
        last=torch.full((8,), 6),
        answers=torch.randint(D_VOCAB, (4, 2, 1)),
        scoring=Scoring.pair,
    )


def test_the_scaling_worked_by_hand(bridged: Bridged, monkeypatch: pytest.MonkeyPatch) -> None:
    sparse, dense, bridge = bridged.sparse, bridged.dense, bridged.bridge
    sizes = {sparse: 6.0, dense: 1.5}
    monkeypatch.setattr("sparse_circuits.bridges.steer.size", lambda model, *_, **__: torch.tensor(sizes[model]))
    with torch.no_grad():
        norm_at(sparse, "1.resid_in").gain[5] = 2.0
        bridge.sizes[2] = torch.tensor([6.0, 1.5])
        bridge.decoders[2].weight[:, 5] = torch.arange(8.0)
        if isinstance(dense, HuggingFace):
            dense.norm_before("1.resid_in").weight.fill_(3.0)
        else:
            norm_at(dense, "1.resid_in").gain.fill_(3.0)
    # G = W * 1.5 / 6; direction = 6 / 1.5 * 3 * G / 2 = 1.5 W, LayerNorm's less its mean
    expected = 1.5 * torch.arange(8.0)
    if isinstance(dense, HuggingFace):
        expected = expected - expected.mean()
    torch.testing.assert_close(directions(bridged, [NODE], torch.zeros(1, 2, dtype=torch.long))[NODE], expected)


def test_sizes_are_root_mean_squares_over_tokens_and_channels(bridged: Bridged, reference: Tensor) -> None:
    stream = record(bridged.sparse, reference, "1.resid_in")["1.resid_in"]
    torch.testing.assert_close(size(bridged.sparse, "1.resid_in", reference), stream.square().mean().sqrt())
    centred = stream - stream.mean(-1, keepdim=True)
    found = size(bridged.sparse, "1.resid_in", reference, is_centred=True)
    torch.testing.assert_close(found, centred.square().mean().sqrt())


def test_what_is_added_is_each_nodes_difference_along_its_direction(bridged: Bridged, pairs: PairBatch) -> None:
    presented, other = pairs.tokens[:4], pairs.tokens[4:]
    nodes = [NODE, Node("1.attn.act_in", 2), Node("0.mlp.act_in", 7)]
    along = {node: torch.randn(8) for node in nodes}
    changes = node_changes(bridged, along, presented, other)
    assert set(changes) == {"1.attn.act_in", "0.mlp.act_in"}
    sites = ["0.mlp.act_in", "1.attn.act_in"]
    before, after = record(bridged.sparse, presented, sites), record(bridged.sparse, other, sites)
    for site, change in changes.items():
        expected = torch.zeros(4, 7, 8)
        for node in nodes:
            if node.site == site:
                expected += (after[site] - before[site])[..., node.channel, None] * along[node]
        torch.testing.assert_close(change, expected)


@torch.no_grad()
def test_the_raw_difference_at_full_strength_is_the_other_activation(bridged: Bridged, pairs: PairBatch) -> None:
    presented, other = pairs.tokens[:4], pairs.tokens[4:]
    changes = raw_changes(bridged.dense, ["1.mlp.act_in"], presented, other)
    kept: list[Tensor] = []
    bridged.dense(other, taps={"1.mlp.act_in": lambda value: kept.append(value) or value})
    patched = bridged.dense(presented, taps={"1.mlp.act_in": lambda _: kept[0]})
    torch.testing.assert_close(steered(bridged.dense, presented, changes, strength=1.0), patched, rtol=1e-4, atol=1e-5)
    last = torch.tensor([2, 6, 3, 0])
    there = steered(bridged.dense, presented, changes, strength=1.0, at=last)
    torch.testing.assert_close(there, patched[torch.arange(4), last], rtol=1e-4, atol=1e-5)
    plain = bridged.dense(presented)
    torch.testing.assert_close(steered(bridged.dense, presented, changes, strength=0.0), plain)
    assert not torch.allclose(patched, plain)


def test_random_directions_have_the_same_norms_and_no_others(bridged: Bridged, reference: Tensor) -> None:
    along = directions(bridged, [NODE], reference)
    one, two = random_directions(along, seed=0)[NODE], random_directions(along, seed=1)[NODE]
    torch.testing.assert_close(one.norm(), along[NODE].norm())
    assert not torch.allclose(one, two)
    torch.testing.assert_close(random_directions(along, seed=0)[NODE], one)


def test_the_most_pushed_token_by_hand() -> None:
    change = torch.zeros(2, 3, 2)
    change[0, 1], change[1, 2], change[1, 0] = torch.tensor([3.0, 4.0]), torch.tensor([1.0, 0.0]), torch.tensor([0.1, 0.1])
    torch.testing.assert_close(most_pushed(change), torch.tensor([2.0, 2.0]))


def test_curves_begin_at_the_plain_answers_and_go_through_steered_ones(
    bridged: Bridged, pairs: PairBatch, reference: Tensor, tmp_path: Path
) -> None:
    config = SteerConfig(strengths=[0.0, 1.0], n_random=3)
    found = steering_curves(bridged, [NODE], pairs, reference, task="toy", config=config)
    assert set(found.curves) == {"node", "random", "raw"}
    logits = bridged.dense(pairs.tokens, at=pairs.last).softmax(-1)
    counterfactual, own = (
        torch.cat([pairs.answers[:, 1], pairs.answers[:, 0]]),
        torch.cat([pairs.answers[:, 0], pairs.answers[:, 1]]),
    )
    for points in found.curves.values():
        assert points[0].counterfactual.mean == pytest.approx(logits.gather(1, counterfactual).mean().item(), rel=1e-4)
        assert points[0].side_effect == pytest.approx(0, abs=1e-6)
        assert points[1].side_effect > 0
        for estimate in (points[1].counterfactual, points[1].share):
            assert estimate.low <= estimate.mean <= estimate.high
    changes = node_changes(bridged, directions(bridged, [NODE], reference), pairs.tokens, pairs.tokens.roll(4, 0))
    pushed = steered(bridged.dense, pairs.tokens, changes, strength=1.0, at=pairs.last).softmax(-1)
    to_other, to_own = pushed.gather(1, counterfactual), pushed.gather(1, own)
    assert found.curves["node"][1].counterfactual.mean == pytest.approx(to_other.mean().item(), rel=1e-4)
    assert found.curves["node"][1].share.mean == pytest.approx((to_other / (to_other + to_own)).mean().item(), rel=1e-4)
    draw_steering(found, tmp_path / "steering.png")
    assert (tmp_path / "steering.png").stat().st_size > 1000


def test_first_order_effects_are_slopes_of_steering(bridged: Bridged, pairs: PairBatch, reference: Tensor) -> None:
    for each in (bridged.sparse, bridged.dense, bridged.bridge):
        each.double()
    nodes = [NODE, Node("0.mlp.act_in", 7), Node("0.attn.act_in", 1)]
    found = first_order_effects(bridged, nodes, pairs, reference)

    def odds(node: Node, strength: float) -> float:
        along = directions(bridged, [node], reference)
        changes = node_changes(bridged, along, pairs.tokens, pairs.tokens.roll(pairs.n_pairs, 0))
        logits = steered(bridged.dense, pairs.tokens, changes, strength=strength, at=pairs.last)
        return -right_margins(answer_difference(logits, pairs)).mean().item()

    for node in nodes:
        slope = (odds(node, 1e-3) - odds(node, -1e-3)) / 2e-3
        assert found[node] == pytest.approx(slope, rel=1e-4, abs=1e-12) and found[node] != 0


def test_the_strongest_nodes_are_those_of_the_largest_effects(bridged: Bridged, pairs: PairBatch, reference: Tensor) -> None:
    effects = first_order_effects(bridged, steerable(bridged), pairs, reference)
    assert {node.site for node in effects} == {f"{layer}.{kind}.act_in" for layer in (0, 1) for kind in ("attn", "mlp")}
    chosen = strongest_nodes(bridged, pairs, reference, n_nodes=3)
    assert [effects[node] for node in chosen] == sorted(effects.values(), reverse=True)[:3]


def test_two_prompts_in_text(bridged: Bridged, reference: Tensor) -> None:
    bridged.tokenizer.encode = lambda text: [ord(letter) % D_VOCAB for letter in text]
    there = steer(bridged, ["1.attn.act_in[5]"], "abc", "abd", reference=reference, strength=0.0)
    plain = bridged.dense(torch.tensor([[ord(letter) % D_VOCAB for letter in "abc"]]))[0, -1].softmax(-1)
    torch.testing.assert_close(there, plain)
    with pytest.raises(UserError, match="have 3 and 4 tokens"):
        steer(bridged, [NODE], "abc", "abcd", reference=reference)


def test_nodes_that_no_bridge_carries_are_refused(bridged: Bridged, reference: Tensor) -> None:
    for node, says in (
        (Node("1.attn.q", 3), "not at an act_in site"),
        (Node("final_resid", 3), "not at an act_in site"),
        (Node("5.attn.act_in", 3), 'No site of this 2-layer model matches "5.attn.act_in"'),
        (Node("1.attn.act_in", 16), "channel of the positions"),
    ):
        with pytest.raises(UserError, match=says):
            directions(bridged, [node], reference)
    bridged.bridge.crossings[2] = bridged.bridge.crossings[2]._replace(sparse="elsewhere")
    with pytest.raises(UserError, match=r"does not lead from 1\.resid_in, which"):
        directions(bridged, [NODE], reference)
