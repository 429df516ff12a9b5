"""Units: a mask over nodes or edges as taps, edges cut while nodes outside are removed as the objective says."""

import torch

from sparse_circuits.circuits import MaskConfig, Objective
from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.cuts import cut_taps, cuts_of
from sparse_circuits.circuits.discovery.units import edge_units, node_units, tied_qk
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.nodes import by_site, count_nodes, mark
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.model.taps import chain
from tests.circuits.planted import CONFIG, HONEST, planted_means, planted_model, planted_pairs


def test_masked_nodes_are_ablated_and_shares_ablate_in_part() -> None:
    model, pairs = planted_model(), planted_pairs(8)
    means = planted_means(model)
    units, kept = node_units(model, means, MaskConfig()), mark(HONEST, CONFIG)
    assert units.n_units == count_nodes(CONFIG) == len(kept)
    expected = answer_margins(model, pairs, taps=ablation_taps(kept, means, CONFIG))
    torch.testing.assert_close(answer_margins(model, pairs, taps=units.masked(kept.double() - 0.5)), expected)
    torch.testing.assert_close(answer_margins(model, pairs, taps=units.shared(kept.double())), expected)
    half = answer_margins(model, pairs, taps=units.shared(torch.full((len(kept),), 0.5)))
    assert (half * expected > 0).all() and (half.abs() < expected.abs()).all()


def test_while_edges_are_learned_nodes_outside_are_removed_as_the_objective_says() -> None:
    model, pairs = planted_model(), planted_pairs(8)
    means, nodes = planted_means(model), {**HONEST, "0.mlp.post_act": [0, 1]}
    subgraph = Subgraph.whole(model, nodes)
    alone = answer_margins(model, pairs, taps=ablation_taps(mark(nodes, CONFIG), means, CONFIG))
    found = {}
    for objective in Objective:
        config, generator = MaskConfig(objective=objective), torch.Generator().manual_seed(0)
        units = edge_units(model, means, config, subgraph, generator=generator)
        runs = [answer_margins(model, pairs, taps=units.masked(torch.ones(len(subgraph.edges)))) for _ in range(8)]
        found[objective] = torch.stack(runs)
    torch.testing.assert_close(found[Objective.full], alone.expand(8, -1))
    for objective in (Objective.partial, Objective.adversarial):
        assert found[objective].std(0).min() > 0.1, objective


def test_ties_give_a_heads_query_channels_the_parameters_of_its_key_channels() -> None:
    tie = tied_qk(CONFIG)
    sites = by_site(tie, CONFIG)
    assert torch.equal(sites["0.attn.q"], sites["0.attn.k"]) and len(sites["0.attn.q"].unique()) == CONFIG.d_attn
    assert torch.equal(tie.unique(), torch.arange(count_nodes(CONFIG) - CONFIG.d_attn))


def test_masked_edges_are_cut_and_shares_cut_in_part() -> None:
    model, pairs = planted_model(), planted_pairs(8)
    means, subgraph = planted_means(model), Subgraph.whole(model, HONEST)
    config = MaskConfig(objective=Objective.full)
    units = edge_units(model, means, config, subgraph, generator=torch.Generator())
    mask = torch.tensor([1.0 if index % 3 else -1.0 for index in range(len(subgraph.edges))])
    gone = [edge for edge, value in zip(subgraph.edges, mask, strict=True) if value < 0]
    nodes = ablation_taps(mark(HONEST, CONFIG), means, CONFIG)
    expected = answer_margins(model, pairs, taps=chain(nodes, cut_taps(model, cuts_of(gone), means)))
    torch.testing.assert_close(answer_margins(model, pairs, taps=units.masked(mask)), expected, rtol=1e-6, atol=1e-6)
    found = answer_margins(model, pairs, taps=units.shared((mask > 0).double()))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    whole = answer_margins(model, pairs, taps=nodes)
    half = answer_margins(model, pairs, taps=units.shared(torch.full((len(subgraph.edges),), 0.5)))
    assert not torch.allclose(half, whole, atol=0.1) and (half * whole > 0).all() and (half.abs() < whole.abs()).all()
