"""Necessity: every loss by its own intervention, and backups that are outside, needed, and enough."""

import copy
import dataclasses
import math

import pytest
import torch

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.discovery.baselines import attributions
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.evidence.faithfulness import live_nodes, random_nodes
from sparse_circuits.circuits.evidence.necessity import find_backups, necessity_curve, without_superfluous
from sparse_circuits.circuits.margin import answer_margins, score
from sparse_circuits.circuits.nodes import by_site, channels_of, mark
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node
from sparse_circuits.model.taps import chain
from sparse_circuits.tasks import PairBatch, Split, encode_pairs, right_margins
from tests.circuits.toy import CONFIG, TASK, Toy


@pytest.fixture(scope="module")
def batch(toy: Toy) -> PairBatch:
    return encode_pairs(TASK, toy.tokenizer, split=Split.held_out, n_pairs=8, seed=3)


def loss_without(circuit: Circuit, batch: PairBatch, ablated: list[Node]) -> float:
    """Overwrite nodes one by one, without any of the ablation code."""
    taps = {}
    for node in ablated:
        channels = [each.channel for each in ablated if each.site == node.site]

        def tap(value: torch.Tensor, site: str = node.site, channels: list[int] = channels) -> torch.Tensor:
            value = value.clone()
            value[..., channels] = circuit.means.sites[site][channels]
            return value

        taps[node.site] = tap
    return score(answer_margins(circuit.model, batch, taps=taps)).loss


def nodes_of(circuit: Circuit) -> list[Node]:
    return [Node(site, channel) for site, channels in circuit.nodes.items() for channel in channels]


def test_the_curve_runs_from_the_model_to_the_model_without_its_circuit(circuit: Circuit, batch: PairBatch) -> None:
    curve = necessity_curve(circuit, batch, shares=(0.0, 0.5, 1.0), n_draws=3)
    inside = nodes_of(circuit)
    for losses in (curve.random, curve.by_effect):
        assert losses[0] == pytest.approx(loss_without(circuit, batch, []), abs=1e-6)
        assert losses[2] == pytest.approx(loss_without(circuit, batch, inside), abs=1e-6)
    strongest = list(curve.effects)[: round(len(inside) / 2)]
    assert curve.by_effect[1] == pytest.approx(loss_without(circuit, batch, strongest), abs=1e-6)
    assert curve.shares == [0.0, 0.5, 1.0] and set(curve.effects) == set(inside)


def test_effects_are_those_of_each_node_alone_largest_first(circuit: Circuit, batch: PairBatch) -> None:
    effects = necessity_curve(circuit, batch, shares=(), n_draws=1).effects
    whole = loss_without(circuit, batch, [])
    for node, effect in effects.items():
        assert effect == pytest.approx(loss_without(circuit, batch, [node]) - whole, abs=1e-6)
    assert list(effects.values()) == sorted(effects.values(), reverse=True) and max(effects.values()) > 0.1


def test_random_orders_are_averaged_and_the_same_for_one_seed(circuit: Circuit, batch: PairBatch) -> None:
    def middle(**options: int) -> float:
        return necessity_curve(circuit, batch, shares=(0.3,), **options).random[0]

    single = [middle(n_draws=1, seed=seed) for seed in range(3)]
    assert len(set(single)) > 1 and middle(n_draws=1, seed=1) == single[1]
    generator = torch.Generator().manual_seed(0)
    inside, losses = nodes_of(circuit), []
    for _ in range(2):
        order = torch.randperm(len(inside), generator=generator)[: round(0.3 * len(inside))]
        losses.append(loss_without(circuit, batch, [inside[index] for index in order]))
    assert middle(n_draws=2, seed=0) == pytest.approx(sum(losses) / 2, abs=1e-6)


def test_attribution_is_what_a_small_step_to_the_mean_costs(circuit: Circuit, batch: PairBatch) -> None:
    model = copy.deepcopy(circuit.model).double()
    means = circuit.means._replace(sites={site: mean.double() for site, mean in circuit.means.sites.items()})
    kept = ~mark({"0.attn.v": circuit.nodes["0.attn.v"][:1]}, CONFIG)
    found = by_site(attributions(model, batch, means, kept.double()), CONFIG)
    taps = ablation_taps(kept, means, CONFIG)

    def margin(site: str, channel: int, step: float) -> float:
        def nudge(value: torch.Tensor) -> torch.Tensor:
            value = value.clone()
            value[..., channel] += step * (means.sites[site][channel] - value[..., channel])
            return value

        return right_margins(answer_margins(model, batch, taps=chain(taps, {site: nudge}))).mean().item()

    sites = ("0.attn.act_in", "0.attn.k", "0.attn.v", "0.attn.resid_delta", "final_resid")
    left = channels_of(kept & mark(circuit.nodes, CONFIG), CONFIG)
    some = [(site, channel) for site in sites for channel in left.get(site, [])[-2:]]
    assert {site for site, _ in some} >= set(sites) - {"0.attn.v"}  # its only node may be the one that is ablated
    for site, channel in some:
        # A larger step can change which channels AbsTopK keeps.
        slope = (margin(site, channel, -1e-6) - margin(site, channel, 1e-6)) / 2e-6
        assert found[site][channel].item() == pytest.approx(slope, rel=1e-5, abs=1e-7), (site, channel)
    assert max(each.abs().max().item() for each in found.values()) > 1
    assert all(weight.grad is None for weight in model.parameters())


@pytest.fixture
def partial(circuit: Circuit) -> Circuit:
    """A circuit that the model can do without: one node of the real one."""
    nodes = {"final_resid": circuit.nodes["final_resid"][:1]}
    return dataclasses.replace(circuit, nodes=nodes, edges=circuit_edges(circuit.model, nodes))


def test_backups_are_outside_needed_and_enough(partial: Circuit, circuit: Circuit, batch: PairBatch) -> None:
    found = find_backups(partial, batch, bound=0.6)
    inside = nodes_of(partial)
    assert found.loss_without_circuit == pytest.approx(loss_without(partial, batch, inside), abs=1e-6)
    assert found.loss_without_circuit < 0.6 <= found.loss and found.is_reached
    assert found.nodes and not set(found.nodes) & set(inside)
    assert found.loss == pytest.approx(loss_without(partial, batch, inside + found.nodes), abs=1e-6)
    for node in found.nodes:
        assert loss_without(partial, batch, inside + [each for each in found.nodes if each != node]) < 0.6, node
    assert found.random_loss < found.loss
    assert set(found.nodes) & set(nodes_of(circuit))


def test_the_backups_control_is_random_live_nodes_of_their_sites(partial: Circuit, batch: PairBatch) -> None:
    found = find_backups(partial, batch, bound=0.6, n_draws=3, seed=4)
    picked = {node.site: [each.channel for each in found.nodes if each.site == node.site] for node in found.nodes}
    allowed = live_nodes(partial.model, batch) & ~mark(partial.nodes, CONFIG)
    generator, losses = torch.Generator().manual_seed(4), []
    for _ in range(3):
        drawn = channels_of(random_nodes(mark(picked, CONFIG), allowed, CONFIG, generator=generator), CONFIG)
        nodes = [Node(site, channel) for site, channels in drawn.items() for channel in channels]
        losses.append(loss_without(partial, batch, nodes_of(partial) + nodes))
    assert found.random_loss == pytest.approx(sum(losses) / 3, abs=1e-6)


def test_a_necessary_circuit_has_no_backups(circuit: Circuit, batch: PairBatch) -> None:
    found = find_backups(circuit, batch, bound=0.6)
    assert found.nodes == [] and found.is_reached
    assert found.loss == found.loss_without_circuit == found.random_loss >= 0.6


def test_says_so_when_the_bound_is_out_of_reach(partial: Circuit, batch: PairBatch) -> None:
    found = find_backups(partial, batch, bound=math.inf, n_most=3, n_at_once=2, n_draws=1)
    assert not found.is_reached and len(found.nodes) == 3


def test_drops_from_the_last_back_until_nothing_can_go() -> None:
    assert without_superfluous([1, 2, 3, 4], lambda few: {1, 3} <= set(few)) == [1, 3]
    assert without_superfluous([1, 2, 3], lambda few: len(few) >= 2) == [1, 2]
    # Only without 3 can 4 go: one pass from the back would keep it.
    assert without_superfluous([3, 4], lambda few: few in ([3, 4], [4], [])) == []


@pytest.mark.parametrize("wrong", [{"n_draws": 0}, {"shares": (0.5, 1.5)}])
def test_curve_refuses_settings_out_of_range(circuit: Circuit, batch: PairBatch, wrong: dict) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        necessity_curve(circuit, batch, **wrong)


@pytest.mark.parametrize("wrong", [{"n_draws": 0}, {"n_most": 0}, {"n_at_once": -1}])
def test_backups_refuse_settings_out_of_range(circuit: Circuit, batch: PairBatch, wrong: dict) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        find_backups(circuit, batch, **wrong)
