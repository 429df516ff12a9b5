"""Binarisation: the best of three steps by brute force, its two ends, each node alone, and trained levels."""

import copy
import dataclasses

import pytest
import torch

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.margin import score
from sparse_circuits.circuits.measures.binarise import Binarised, SwitchStep, best_step, binarise, fit_switches, switch_taps
from sparse_circuits.errors import UserError
from sparse_circuits.model import Link, Node, record
from sparse_circuits.model.taps import chain
from sparse_circuits.tasks import PairBatch, Split, encode_pairs
from tests.circuits.toy import TASK, Toy


@pytest.fixture(scope="module")
def pairs(toy: Toy) -> tuple[PairBatch, PairBatch]:
    train, held_out = (
        encode_pairs(TASK, toy.tokenizer, split=split, n_pairs=24, seed=5) for split in (Split.train, Split.held_out)
    )
    return train, held_out


@pytest.fixture(scope="module")
def found(circuit: Circuit, pairs: tuple[PairBatch, PairBatch]) -> Binarised:
    return binarise(circuit, *pairs)


def step_by_hand(values: list[float]) -> tuple[float, float, float, float]:
    """Return the least squared error, with its threshold, low and high level."""
    least, greatest = min(values), max(values)
    steps = []
    for quarter in (0.5, 0.25, 0.75):
        cut = least + quarter * (greatest - least)
        sides = [[x for x in values if x <= cut], [x for x in values if x > cut]]
        levels = [sum(side) / len(side) for side in sides]
        steps.append((sum((x - level) ** 2 for side, level in zip(sides, levels, strict=True) for x in side), cut, *levels))
    return min(steps, key=lambda step: round(step[0], 4))  # where two part the values alike, the first


def test_takes_the_best_of_three_thresholds() -> None:
    values = torch.randn(50, 6, dtype=torch.float64).exp() * torch.tensor([1.0, -1.0]).repeat(3)  # skewed to either side
    for channel, (threshold, low, high) in enumerate(zip(*best_step(values), strict=True)):
        _, *expected = step_by_hand(values[:, channel].tolist())
        assert [threshold.item(), low.item(), high.item()] == pytest.approx(expected), channel


def test_two_values_are_found_exactly_and_a_constant_stays() -> None:
    values = torch.tensor([[0.0, 2.0, -1.0], [3.0, 2.0, -1.0], [0.0, 2.0, 5.0]])
    threshold, low, high = best_step(values)
    assert low.tolist() == [0.0, 2.0, -1.0] and high.tolist() == [3.0, 2.0, 5.0]
    assert threshold[1] == 2.0


def test_one_end_is_the_circuit_and_at_the_other_each_node_has_two_values(
    circuit: Circuit, found: Binarised, pairs: tuple[PairBatch, PairBatch]
) -> None:
    _, held_out = pairs
    assert found.loss_by_t[1.0] == pytest.approx(score(circuit.margins(held_out)).loss, abs=1e-6)
    taps = chain(switch_taps(found.switches, t=0.0), circuit.taps())
    for site, value in record(circuit.model, held_out.tokens, list(circuit.nodes), taps=taps).items():
        for index, channel in enumerate(found.switches[site].channels.tolist()):
            levels = {found.switches[site].low[index].item(), found.switches[site].high[index].item()}
            assert set(value[..., channel].unique().tolist()) <= levels, (site, channel)
    half = switch_taps(found.switches, t=0.25)
    site, switch = next(iter(found.switches.items()))
    x = torch.randn(2, 3, 500)
    expected = 0.25 * x[..., switch.channels] + 0.75 * torch.where(
        x[..., switch.channels] > switch.threshold, switch.high, switch.low
    )
    torch.testing.assert_close(half[site](x)[..., switch.channels], expected)
    others = [channel for channel in range(500) if channel not in switch.channels.tolist()]
    assert torch.equal(half[site](x)[..., others], x[..., others])


def test_levels_are_those_of_the_train_prompts(circuit: Circuit, pairs: tuple[PairBatch, PairBatch]) -> None:
    train, _ = pairs
    switches = fit_switches(circuit, train)
    assert {site: switch.channels.tolist() for site, switch in switches.items()} == circuit.nodes
    site = "0.attn.v"
    values = record(circuit.model, train.tokens, site, taps=circuit.taps())[site]
    for index, channel in enumerate(circuit.nodes[site]):
        seen = [row[: end + 1, channel] for row, end in zip(values, train.last, strict=True)]
        _, threshold, low, high = step_by_hand(torch.cat(seen).double().tolist())
        switch = [each[index].item() for each in switches[site][1:]]
        assert switch == pytest.approx([threshold, low, high], abs=1e-5)


def test_a_node_alone_by_intervention(circuit: Circuit, found: Binarised, pairs: tuple[PairBatch, PairBatch]) -> None:
    _, held_out = pairs
    node = max(found.rise_by_node, key=found.rise_by_node.get)
    switch = found.switches[node.site]
    index = switch.channels.tolist().index(node.channel)

    def overwrite(value: torch.Tensor) -> torch.Tensor:
        value = value.clone()
        is_above = value[..., node.channel] > switch.threshold[index]
        value[..., node.channel] = torch.where(is_above, switch.high[index], switch.low[index])
        return value

    logits = circuit.model(held_out.tokens, taps=chain({node.site: overwrite}, circuit.taps()), at=held_out.last)
    positive, negative = held_out.answers[0, :, 0]
    loss = score(circuit.calibration(logits[:, positive] - logits[:, negative])).loss
    assert found.rise_by_node[node] == pytest.approx(loss - found.loss_by_t[1.0], abs=1e-5)
    assert set(found.rise_by_node) == {Node(site, c) for site, channels in circuit.nodes.items() for c in channels}
    below = [rise < 0.01 for rise in found.rise_by_node.values()]
    assert found.share_binary == sum(below) / len(below)


def test_a_cut_edge_stays_cut(circuit: Circuit, pairs: tuple[PairBatch, PairBatch]) -> None:
    """As in a model without that weight, whose reader has the mean of what it read in its bias."""
    edge = max((edge for edge in circuit.edges if edge.target.site == "0.attn.v"), key=lambda edge: abs(edge.weight))
    model = copy.deepcopy(circuit.model)
    model.link_weight(Link(edge.source.site, edge.target.site))[edge.target.channel, edge.source.channel] = 0
    mean = circuit.means.sites[edge.source.site][edge.source.channel]
    model.layers[0].attn.qkv.bias.chunk(3)[2][edge.target.channel] += edge.weight * mean
    cut = dataclasses.replace(circuit, edges=[each for each in circuit.edges if each != edge])
    without = dataclasses.replace(cut, model=model)
    whole, found, expected = (binarise(each, *pairs, schedule=(0.5, 0.0)).loss_by_t for each in (circuit, cut, without))
    assert found == pytest.approx(expected, abs=1e-5) and whole[0.0] != pytest.approx(found[0.0], abs=1e-3)


def test_trained_levels_bring_the_loss_down(circuit: Circuit, found: Binarised, pairs: tuple[PairBatch, PairBatch]) -> None:
    train, _ = pairs
    untrained = binarise(circuit, train, train, schedule=(0.0,)).loss_by_t[0.0]
    trained = binarise(circuit, train, train, schedule=(0.0,), n_steps=40, n_pairs=12, lr=0.03)
    assert trained.loss_by_t[0.0] < untrained - 0.02
    assert trained.switches.keys() == found.switches.keys()
    for site, switch in trained.switches.items():
        assert torch.equal(switch.threshold, found.switches[site].threshold), site
    assert all(weight.grad is None for weight in circuit.model.parameters())


def test_t_falls_as_the_fifth_power_and_the_first_step_moves_levels_by_lr_gaps(
    circuit: Circuit, pairs: tuple[PairBatch, PairBatch]
) -> None:
    train, _ = pairs
    fitted, every = fit_switches(circuit, train), torch.arange(train.n_pairs)
    step = SwitchStep(circuit, fitted, train, n_steps=4, lr=0.05)
    metrics = [step(every, index=index) for index in range(4)]
    assert [each["t"] for each in metrics] == [1.0, 0.75**5, 0.5**5, 0.25**5]
    assert metrics[0]["loss"].item() == pytest.approx(score(circuit.margins(train)).loss, abs=1e-6)
    again = SwitchStep(circuit, fitted, train, n_steps=4, lr=0.05)
    again(every, index=1)
    for site, switch in again.switches().items():
        gap = fitted[site].high - fitted[site].low
        moved = torch.stack([switch.low - fitted[site].low, switch.high - fitted[site].high]).abs()
        assert (moved <= 0.05 * gap.abs() * 1.01 + 1e-6).all(), site
        assert (moved > 0.045 * gap.abs()).any(), site


def test_levels_of_a_node_that_nothing_reads_stay(circuit: Circuit, pairs: tuple[PairBatch, PairBatch]) -> None:
    train, _ = pairs
    unread = dataclasses.replace(circuit, nodes={"0.mlp.act_in": [0], "final_resid": circuit.nodes["final_resid"]}, edges=[])
    fitted = fit_switches(unread, train)
    step = SwitchStep(unread, fitted, train, n_steps=4, lr=0.05)
    step(torch.arange(train.n_pairs), index=1)  # at 0 switches still are what they replace
    after = step.switches()

    def stay(site: str) -> bool:
        return torch.equal(after[site].low, fitted[site].low) and torch.equal(after[site].high, fitted[site].high)

    assert stay("0.mlp.act_in") and not stay("final_resid")


def test_refuses_what_cannot_be_binarised(circuit: Circuit, pairs: tuple[PairBatch, PairBatch]) -> None:
    with pytest.raises(UserError, match="from 0 to 1"):
        binarise(circuit, *pairs, schedule=(1.0, -0.1))
    with pytest.raises(UserError, match="no nodes"):
        binarise(dataclasses.replace(circuit, nodes={}, edges=[]), *pairs)
