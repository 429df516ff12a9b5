"""The card of a circuit: each number by its own intervention, on a planted circuit, and the toy's."""

import dataclasses

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits import Ablation, Card, CardConfig, Check, Circuit, Control, MaskConfig
from sparse_circuits.circuits.ablate import ablation_taps, stand_in
from sparse_circuits.circuits.discovery.search import Found, Search
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.evidence.controls import means_on_sample, nonsense, random_weights, swapped
from sparse_circuits.circuits.evidence.faithfulness import assess, equal_size, live_nodes, random_nodes
from sparse_circuits.circuits.margin import answer_margins, score
from sparse_circuits.circuits.nodes import by_site, channels_of, count_nodes, mark
from sparse_circuits.circuits.norms import FrozenNorms
from sparse_circuits.circuits.partial import draw_parts, partial_taps
from sparse_circuits.circuits.subgraph import Subgraph, subgraph_taps
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node, node_sites, record, site_width
from sparse_circuits.tasks import PairBatch, Split, answer_difference, encode_pairs
from sparse_circuits.tasks.calibrate import Calibration, calibrate
from tests.circuits.planted import CONFIG, HONEST, planted_search
from tests.circuits.toy import CONFIG as TOY_CONFIG
from tests.circuits.toy import EXTRACT, TASK, Toy

SIZES = CardConfig(n_random=5, n_outside=3, n_partial=4, n_resample=2, n_controls=1)
N_RANKED = 7


@pytest.fixture(scope="module")
def search() -> Search:
    torch.manual_seed(0)
    return planted_search(MaskConfig(n_steps=30, lr=0.06))


@pytest.fixture(scope="module")
def found(search: Search) -> Found:
    """The honest way but for one edge, with a certificate of our own."""
    edges = circuit_edges(search.model, HONEST)[1:]
    without = {Node("final_resid", 1): 0.7, edges[0]: 0.4, Node("0.mlp.act_in", 0): 0.6}
    return Found(Subgraph(HONEST, edges), Calibration(0.8, 0.2), without, n_ranked=N_RANKED)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["ab"], d_vocab=257)


@pytest.fixture(scope="module")
def card(search: Search, found: Found, tokenizer: Tokenizer) -> Card:
    return assess(search, found, nonsense(search, tokenizer, n_controls=1), config=SIZES)


def held_out(toy: Toy) -> PairBatch:
    return encode_pairs(TASK, toy.tokenizer, split=Split.held_out, n_pairs=EXTRACT.n_held_out_pairs, seed=EXTRACT.seed)


def loss(search: Search, taps: object = None, calibration: Calibration | None = None) -> float:
    model, batch = search.model, search.pairs.held_out
    if callable(taps):
        margin = answer_margins(model, batch, taps=taps)
    else:
        margin = answer_difference(model(batch.tokens, taps=taps, at=batch.last), batch)
    return score(calibration(margin) if calibration else margin).loss


def exactly(value: float) -> object:
    return pytest.approx(value, abs=1e-6)


def test_says_what_the_circuit_is_made_of(search: Search, found: Found, card: Card) -> None:
    assert (card.n_nodes, card.n_edges, card.n_pairs, card.target_loss) == (7, 7, 16, 0.1)
    assert card.nodes_per_site == {site: len(channels) for site, channels in HONEST.items()}
    assert card.edges_per_link == {
        "0.mlp.act_in -> 0.mlp.post_act": 3,
        "0.mlp.post_act -> 0.mlp.resid_delta": 4,
    }
    assert card.without_nodes == {"final_resid[1]": 0.7, "0.mlp.act_in[0]": 0.6}
    assert card.without_edges == {str(found.subgraph.edges[0]): 0.4}
    assert [node.node for node in card.fidelity] == [str(Node(site, c)) for site, channels in HONEST.items() for c in channels]
    assert card.pattern_error == {} and card.interchange.all_in_model == 1


def test_what_is_left_and_what_is_left_out(search: Search, found: Found, card: Card) -> None:
    """Overwrite nodes one by one, without any of the ablation code; the planted circuit's cut edge apart."""
    inside = {Node(site, channel) for site, channels in HONEST.items() for channel in channels}

    def freeze(is_frozen) -> dict:
        def tap(site: str):
            def overwrite(value: Tensor) -> Tensor:
                value = value.clone()
                for channel in range(value.shape[-1]):
                    if is_frozen(Node(site, channel)):
                        value[..., channel] = search.means.sites[site][channel]
                return value

            return overwrite

        return {site: tap(site) for site in node_sites(CONFIG)}

    assert card["model"].loss == exactly(loss(search))
    assert card["necessity"].loss == exactly(loss(search, freeze(lambda node: node in inside)))
    assert card["ablated"].loss == exactly(loss(search, freeze(lambda node: True), found.calibration))
    alone = freeze(lambda node: node not in inside)
    (cut,) = [edge for edge in circuit_edges(search.model, HONEST) if edge not in found.subgraph.edges]
    cut_site, mean = f"{cut.target.site}.pre", search.means.sites[cut.source.site][cut.source.channel]
    assert cut.source == Node("0.mlp.act_in", 0)
    whole = record(search.model, search.pairs.held_out.tokens, "0.mlp.act_in")["0.mlp.act_in"][:, 1:, 0]

    def without_cut(value: Tensor) -> Tensor:
        value = value.clone()
        value[..., cut.target.channel] += cut.weight * (mean - whole)
        return value

    assert card["circuit_raw"].loss == exactly(loss(search, {**alone, cut_site: without_cut}))
    assert card["circuit"].loss == exactly(loss(search, {**alone, cut_site: without_cut}, found.calibration))


def test_parts_of_the_outside_at_every_rate(search: Search, found: Found, card: Card) -> None:
    def at(rate: float, seed: int) -> float:
        parts = draw_parts(search.model, n_pairs=16, rate=rate, seed=seed)
        return loss(search, partial_taps(search.model, found.subgraph, search.means, parts), found.calibration)

    for rate in (0.25, 0.5, 0.75):
        assert card[f"partial_{rate}"].loss == exactly(sum(at(rate, seed) for seed in range(4)) / 4)
        assert card[f"partial_{rate}"].n_draws == 4
    assert card["partial_0.0"].loss == exactly(loss(search, None, found.calibration))
    assert card["partial_1.0"].loss == exactly(card["circuit"].loss)
    assert card["partial_0.0"].n_draws == card["partial_1.0"].n_draws == 1


def test_random_circuits_and_random_outside_nodes(search: Search, found: Found, card: Card) -> None:
    kept, generator = mark(HONEST, CONFIG), torch.Generator().manual_seed(search.seed)
    alive, batch = live_nodes(search.model, search.pairs.held_out), search.pairs.held_out
    own, refitted = [], []
    for _ in range(5):
        drawn = random_nodes(kept, alive, CONFIG, generator=generator)
        margin = answer_margins(search.model, batch, taps=ablation_taps(drawn, search.means, CONFIG))
        own.append(score(found.calibration(margin)).loss)
        refitted.append(score(calibrate(margin, max_scale=1.0)(margin)).loss)
    assert (card["random"].loss, card["random_calibrated"].loss) == (exactly(min(own)), exactly(min(refitted)))
    outside = []
    for _ in range(3):
        drawn = random_nodes(kept, alive & ~kept, CONFIG, generator=generator)
        outside.append(loss(search, ablation_taps(~drawn, search.means, CONFIG)))
    assert card["outside"].loss == exactly(sum(outside) / 3) and card["outside"].n_draws == 3


def test_other_norms_and_other_stand_ins(search: Search, found: Found, card: Card) -> None:
    model, batch = search.model, search.pairs.held_out
    taps = FrozenNorms(model, batch).under(subgraph_taps(model, found.subgraph, search.means))
    assert card["frozen_norms"].loss == exactly(loss(search, taps, found.calibration))
    others = [stand_in(Ablation.resample, model, search.means, seed=search.seed + draw) for draw in range(2)]
    # What is drawn depends on the order of the runs, so that these are the same runs.
    margins = [answer_margins(model, batch, taps=subgraph_taps(model, found.subgraph, other)) for other in others]
    draws = [score(found.calibration(margin)).loss for margin in margins]
    assert draws[0] != draws[1] and card["resample"].loss == exactly(sum(draws) / 2)


def test_the_search_gone_again_finds_the_task_and_no_nonsense(search: Search, card: Card) -> None:
    real = score(equal_size(search, N_RANKED)).loss
    assert real < 0.1
    shuffled = random_weights(search.model, seed=0)
    elsewhere = search.inside(shuffled, means_on_sample(shuffled, search.means.sample))
    again = {"swapped": search.on(swapped(search.pairs), seed=0), "random_weights": elsewhere}
    for name, other in again.items():
        assert card[name].loss == exactly(score(equal_size(other, N_RANKED)).loss) and card[name].passes
        assert card[name].loss > 0.6


def test_equal_size_is_the_top_of_a_mask_calibrated_on_validation_pairs(search: Search) -> None:
    mask = search.learn_nodes()
    taps = ablation_taps(torch.zeros(len(mask)).bool().index_fill(0, mask.topk(N_RANKED).indices, True), search.means, CONFIG)
    validation, held_out = (answer_margins(search.model, batch, taps=taps) for batch in search.pairs[1:])
    expected = calibrate(validation, max_scale=1.0)(held_out)
    torch.testing.assert_close(equal_size(search, N_RANKED), expected, rtol=1e-9, atol=1e-9)


def test_every_bound_of_the_table(card: Card) -> None:
    bounds = {each.name: (each.at_most, each.at_least) for each in card.checks}
    free, enough, fails = (None, None), (0.2, None), (None, 0.5)
    partial = {f"partial_{rate}": enough for rate in (0.0, 0.25, 0.5, 0.75, 1.0)}
    assert bounds == {
        "model": free,
        "circuit": enough,
        "circuit_raw": free,
        "necessity": (None, 0.6),
        "random": fails,
        "random_calibrated": free,
        "outside": (0.3, None),
        "ablated": free,
        **partial,
        "frozen_norms": enough,
        "resample": free,
        "swapped": fails,
        "coin": fails,
        "random_weights": fails,
    }


def test_what_needs_pretraining_tokens_or_was_not_asked_for_is_left_out(
    search: Search, found: Found, tokenizer: Tokenizer
) -> None:
    def names(search: Search, *, n_controls: int = 0, **sizes: int) -> set[str]:
        controls, config = nonsense(search, tokenizer, n_controls=n_controls), dataclasses.replace(SIZES, **sizes)
        return {each.name for each in assess(search, found, controls, config=config).checks}

    everything = names(search) | {"swapped", "coin", "random_weights"}
    assert names(search, n_resample=0) == everything - {"swapped", "coin", "random_weights", "resample"}
    short = dataclasses.replace(search.config, n_steps=1)
    without = Search(search.model, search.pairs, search.means._replace(sample=None), short, target_loss=0.1, max_scale=1.0)
    assert names(without, n_controls=1) == everything - {"random_weights", "resample"}


def test_only_the_kinds_asked_for_are_searched(search: Search, tokenizer: Tokenizer) -> None:
    found = nonsense(search, tokenizer, kinds=[Control.random_weights, Control.coin], n_controls=2)
    assert {kind: len(searches) for kind, searches in found.items()} == {Control.coin: 2, Control.random_weights: 2}
    assert nonsense(search, tokenizer, kinds=[], n_controls=2) == {}


@pytest.mark.parametrize("name", ["n_random", "n_partial"])
def test_how_many_draws_has_to_be_said(search: Search, found: Found, name: str) -> None:
    with pytest.raises(UserError, match=f"{name} is None"):
        assess(search, found, {}, config=dataclasses.replace(SIZES, **{name: None}))


def test_the_toys_circuit_is_small_sufficient_and_necessary(circuit: Circuit) -> None:
    card = circuit.card
    assert card["model"].accuracy == 1.0 and card["model"].loss < 0.1
    assert card["circuit"].loss < 0.3 and card["circuit"].accuracy > 0.9
    assert card.n_nodes == sum(card.nodes_per_site.values()) == len(card.without_nodes) < 60
    assert card.n_edges == sum(card.edges_per_link.values()) == len(circuit.edges) == len(card.without_edges)
    assert min([*card.without_nodes.values(), *card.without_edges.values()]) > card.target_loss
    assert card["necessity"].loss > 0.5 > card["outside"].loss
    assert card["random"].loss >= card["random_calibrated"].loss > 0.5 > card["circuit"].loss
    assert all(isinstance(each, Check) and each.low <= each.loss <= each.high for each in card.checks)


def test_live_nodes_are_those_that_vary_on_the_prompts_themselves(toy: Toy) -> None:
    batch = held_out(toy).select(torch.arange(40))
    alive = by_site(live_nodes(toy.model, batch), TOY_CONFIG)
    rows = [(tokens[: last + 1]).unsqueeze(0) for tokens, last in zip(batch.tokens, batch.last, strict=True)]
    recorded = [record(toy.model, row, node_sites(TOY_CONFIG)) for row in rows]
    for site, marked in alive.items():
        values = torch.cat([found[site][0] for found in recorded])
        varies = (values - values[0]).abs().amax(0)
        assert torch.equal(marked[varies > 1e-4], torch.ones_like(marked[varies > 1e-4])), site
        assert not marked[varies == 0].any() or site == "final_resid", site


def test_random_nodes_are_as_many_at_every_site_and_only_allowed_ones() -> None:
    like = torch.rand(count_nodes(CONFIG)) < 0.3
    generator = torch.Generator().manual_seed(3)
    drawn = [random_nodes(like, ~like, CONFIG, generator=generator) for _ in range(3)]
    for each in drawn:
        assert not (each & like).any()
        assert {s: len(c) for s, c in channels_of(each, CONFIG).items()} == {
            site: min(len(channels), site_width(CONFIG, site) - len(channels))
            for site, channels in channels_of(like, CONFIG).items()
        }
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("wrong", [{"n_random": 0}, {"n_partial": 0}, {"n_resample": -1}, {"n_controls": -1}])
def test_refuses_settings_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        CardConfig(**wrong)
