"""Cut edges: the reader sees the mean, nobody else notices, and a node cut from all its readers is ablated."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.cuts import cut_taps, cuts_of
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import channels_of, count_nodes, mark
from sparse_circuits.kernels.sink_attention.reference import attention_pattern
from sparse_circuits.model import Transformer, node_sites, record, site_width
from sparse_circuits.model.sites import links
from sparse_circuits.model.taps import chain
from tests.circuits.test_edges import CONFIG, sparse_model


@pytest.fixture
def model() -> Transformer:
    return sparse_model().double()


@pytest.fixture
def means() -> Means:
    return Means({s: torch.randn(site_width(CONFIG, s), dtype=torch.float64) for s in node_sites(CONFIG)}, 1, "")


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(20, (3, 6))


EVERYTHING = channels_of(torch.ones(count_nodes(CONFIG), dtype=torch.bool), CONFIG)


@pytest.mark.parametrize("kind", ["attn.q", "attn.k", "attn.v", "mlp.post_act", "mlp.resid_delta"])
def test_the_reader_sees_the_mean_of_what_is_cut(model: Transformer, means: Means, tokens: Tensor, kind: str) -> None:
    """Equal to the same matrix with the weight zeroed and a constant in its place."""
    (link,) = [link for link in links(CONFIG) if link.target == f"1.{kind}"]
    edges = [edge for edge in circuit_edges(model, EVERYTHING) if (edge.source.site, edge.target.site) == link]
    cut = edges[::2]
    found = record(model, tokens, "*", taps=cut_taps(model, cuts_of(cut), means))
    plain = record(model, tokens, "*")
    expected = plain[f"{link.target}.pre"].clone()
    for edge in cut:
        value, mean = plain[link.source][..., edge.source.channel], means.sites[link.source][edge.source.channel]
        expected[..., edge.target.channel] += edge.weight * (mean - value)
    torch.testing.assert_close(found[f"{link.target}.pre"], expected, rtol=1e-6, atol=1e-6)
    for site, value in plain.items():
        if site == f"{link.target}.pre":
            break
        if site.split(".")[:2] != link.target.split(".")[:2] or site == link.source:
            assert torch.equal(found[site], value), site


def test_a_cut_behind_heads_gives_the_mean_its_share_of_attention(model: Transformer, means: Means, tokens: Tensor) -> None:
    edge = next(e for e in circuit_edges(model, EVERYTHING) if e.source.site == "0.attn.v")
    found = record(model, tokens, "*", taps=cut_taps(model, cuts_of([edge]), means))
    plain, channel = record(model, tokens, "*"), edge.source.channel
    head = channel // CONFIG.d_head
    q, k = (plain[f"0.attn.{name}"][..., head * CONFIG.d_head : (head + 1) * CONFIG.d_head] for name in "qk")
    pattern = attention_pattern(q.unsqueeze(1), k.unsqueeze(1), model.layers[0].attn.sink[head : head + 1]).squeeze(1)
    mean = pattern.sum(-1) * means.sites["0.attn.v"][channel]
    expected = plain["0.attn.resid_delta.pre"].clone()
    expected[..., edge.target.channel] += edge.weight * (mean - plain["0.attn.y"][..., channel])
    torch.testing.assert_close(found["0.attn.resid_delta.pre"], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("site", ["0.attn.act_in", "0.attn.v", "1.mlp.act_in", "1.mlp.post_act"])
def test_cutting_all_that_leaves_a_node_is_ablating_it(model: Transformer, means: Means, tokens: Tensor, site: str) -> None:
    edges = circuit_edges(model, EVERYTHING)
    node = next(edge.source for edge in edges if edge.source.site == site)
    leaving = [edge for edge in edges if edge.source == node]
    kept = ~mark({node.site: [node.channel]}, CONFIG)
    ablated = model(tokens, taps=ablation_taps(kept, means, CONFIG))
    torch.testing.assert_close(model(tokens, taps=cut_taps(model, cuts_of(leaving), means)), ablated, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(ablated, model(tokens))


def test_chained_taps_run_one_behind_the_other(model: Transformer, tokens: Tensor) -> None:
    twice, more = {"0.attn.q": lambda x: 2 * x}, {"0.attn.q": lambda x: x + 1, "final_resid": lambda x: x}
    taps = chain(twice, more)
    assert taps.keys() == {"0.attn.q", "final_resid"}
    assert taps["0.attn.q"](torch.tensor(3.0)) == 7


def test_a_run_sees_nothing_of_one_in_another_thread(model: Transformer, means: Means, tokens: Tensor) -> None:
    """The other run begins and ends between the moment when the first one's source is seen and that when it is cut."""
    taps = cut_taps(model, cuts_of(circuit_edges(model, EVERYTHING)[::2]), means)
    expected, others = model(tokens, taps=taps), model(tokens.flip(0), taps=taps)
    assert (expected - others).abs().max() > 1e-3
    found = []

    def meanwhile(value: Tensor) -> Tensor:
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(model, tokens.flip(0), taps=taps).result())
        return value

    assert torch.equal(model(tokens, taps=chain(taps, {"1.mlp.act_in": meanwhile})), expected)
    assert torch.equal(found[0], others)
