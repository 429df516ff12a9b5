"""The card: live nodes and random draws exactly, and each number by its own intervention."""

import torch

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.faithfulness import live_nodes, random_nodes
from sparse_circuits.circuits.margin import answer_margins, score
from sparse_circuits.circuits.nodes import by_site, channels_of, count_nodes, mark
from sparse_circuits.model import Node, node_sites, record
from sparse_circuits.tasks import PairBatch, Split, encode_pairs
from tests.circuits.toy import CONFIG, EXTRACT, TASK, Toy


def held_out(toy: Toy) -> PairBatch:
    return encode_pairs(TASK, toy.tokenizer, split=Split.held_out, n_pairs=EXTRACT.n_held_out_pairs, seed=EXTRACT.seed)


def test_the_toy_circuit_is_small_sufficient_and_necessary(circuit: Circuit) -> None:
    card = circuit.card
    assert card.model.accuracy == 1.0 and card.model.loss < 0.1
    assert card.circuit.loss < 0.3 and card.circuit.accuracy > 0.9
    assert card.n_nodes == sum(card.nodes_per_site.values()) < 60
    assert card.n_edges == sum(card.edges_per_link.values()) == len(circuit.edges)
    assert card.necessity.loss > 0.5 and card.necessity.loss > card.outside.loss
    assert card.random.loss >= card.random_calibrated.loss > 0.5 > card.circuit.loss
    assert card.outside.loss <= card.outside_worst_loss


def test_scores_are_those_of_ablating_by_hand(toy: Toy, circuit: Circuit) -> None:
    """Overwrite nodes one by one in recorded values, without any of the ablation code."""
    inside = {Node(site, channel) for site, channels in circuit.nodes.items() for channel in channels}

    def freeze(ablated: bool) -> dict:
        def tap(site: str):
            def overwrite(value: torch.Tensor) -> torch.Tensor:
                value = value.clone()
                for channel in range(value.shape[-1]):
                    if (Node(site, channel) in inside) is ablated:
                        value[..., channel] = toy.means.sites[site][channel]
                return value

            return overwrite

        return {site: tap(site) for site in node_sites(CONFIG)}

    batch = held_out(toy)
    alone = answer_margins(toy.model, batch, taps=freeze(ablated=False))
    scale, shift = circuit.calibration.scale, circuit.calibration.shift
    assert abs(score(scale * alone + shift).loss - circuit.card.circuit.loss) < 1e-4
    assert abs(score(alone).loss - circuit.card.circuit_raw.loss) < 1e-4
    without = answer_margins(toy.model, batch, taps=freeze(ablated=True))
    assert abs(score(without).loss - circuit.card.necessity.loss) < 1e-4


def test_live_nodes_are_those_that_vary_on_the_prompts_themselves(toy: Toy) -> None:
    batch = held_out(toy).select(torch.arange(40))
    alive = by_site(live_nodes(toy.model, batch), CONFIG)
    rows = [(tokens[: last + 1]).unsqueeze(0) for tokens, last in zip(batch.tokens, batch.last, strict=True)]
    recorded = [record(toy.model, row, node_sites(CONFIG)) for row in rows]
    for site, marked in alive.items():
        values = torch.cat([found[site][0] for found in recorded])
        varies = (values - values[0]).abs().amax(0)
        assert torch.equal(marked[varies > 1e-4], torch.ones_like(marked[varies > 1e-4])), site
        assert not marked[varies == 0].any() or site == "final_resid", site


def test_random_nodes_are_as_many_at_every_site_and_only_allowed_ones(circuit: Circuit) -> None:
    kept = mark(circuit.nodes, CONFIG)
    allowed = ~kept
    generator = torch.Generator().manual_seed(3)
    drawn = [random_nodes(kept, allowed, CONFIG, generator=generator) for _ in range(3)]
    for each in drawn:
        assert not (each & kept).any()
        assert {s: len(c) for s, c in channels_of(each, CONFIG).items()} == circuit.card.nodes_per_site
    assert not torch.equal(drawn[0], drawn[1])


def test_random_nodes_take_all_where_too_few_are_allowed() -> None:
    like, allowed = torch.zeros(2, count_nodes(CONFIG), dtype=torch.bool)
    like[:5] = True
    allowed[[1, 3, 200]] = True
    drawn = random_nodes(like, allowed, CONFIG, generator=torch.Generator())
    assert drawn.nonzero().flatten().tolist() == [1, 3]
