"""Paths: all of them, by brute force, and by intervention: in a model made linear their products add up to what it answers."""

import dataclasses
import math
from itertools import pairwise

import pytest
import torch

from sparse_circuits.circuits import Circuit, Means
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.measures.flow import answer_tokens
from sparse_circuits.circuits.measures.paths import CircuitPath, PathKind, count_paths, ov_paths, qk_paths
from sparse_circuits.circuits.nodes import channels_of, count_nodes
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Node, Transformer, node_sites, record, site_width
from sparse_circuits.model.config import Activation, Positions
from sparse_circuits.model.sites import rms_sites
from sparse_circuits.model.taps import chain

CONFIG = ModelConfig(
    n_layers=2,
    d_model=8,
    n_ctx=4,
    d_head=4,
    d_mlp=10,
    activation=Activation.relu,
    positions=Positions.concatenated,
    d_pos=2,
    sinks=False,
    bigram=False,
    abs_topk=1.0,
)
UNIT_RMS = {site: torch.ones_like for site in rms_sites(CONFIG)}
TOKENS = (97, 98)


@pytest.fixture
def linear(circuit: Circuit) -> Circuit:
    """A circuit of a random sparse model that is linear in its one token: no norm divides, every neuron is on."""
    torch.manual_seed(1)
    model = Transformer(CONFIG, d_vocab=circuit.tokenizer.d_vocab).double().requires_grad_(False)
    for name, weight in model.named_parameters():
        if name.endswith("gain"):
            weight.add_(torch.rand_like(weight))
        elif weight.ndim == 2:
            weight.copy_((4 * torch.randn_like(weight)).round() / 4 * (torch.rand_like(weight) < 0.5))
        elif name.endswith("into.bias"):
            weight.fill_(1e6 if "layers.1" in name else 1e3)  # the second layer reads what the first one's neurons write
    nodes = channels_of(torch.rand(count_nodes(CONFIG)) < 0.8, CONFIG)
    means = Means({s: torch.randn(site_width(CONFIG, s), dtype=torch.float64) for s in node_sites(CONFIG)}, 1, "")
    return dataclasses.replace(circuit, model=model, nodes=nodes, edges=circuit_edges(model, nodes)[::2], means=means)


def test_products_add_up_to_what_a_linear_circuit_answers(linear: Circuit) -> None:
    positive, negative = answer_tokens(linear)
    tokens = torch.tensor([[token] for token in TOKENS])
    logits = linear.model(tokens, taps=chain(UNIT_RMS, linear.taps()))[:, 0]
    answers = logits[:, positive] - logits[:, negative]
    # Biases, means and positions are the same for both tokens.
    first, second = (sum(path.product for path in ov_paths(linear, among={token})) for token in TOKENS)
    assert (answers[0] - answers[1]).item() == pytest.approx(first - second) and abs(first - second) > 1


def test_halves_add_up_to_the_scores_of_a_linear_circuit(linear: Circuit) -> None:
    tokens = torch.tensor([[token] for token in TOKENS])
    taps = chain(UNIT_RMS, linear.taps())
    values = record(linear.model, tokens, ["*.attn.q", "*.attn.k"], taps=taps)
    change = {site: (value[0, 0] - value[1, 0]).tolist() for site, value in values.items()}
    expected = sum(
        change[f"{layer}.attn.q"][channel] * change[f"{layer}.attn.k"][channel] / 2
        for layer in range(2)
        for channel in range(CONFIG.d_attn)
    )

    def share(path: CircuitPath) -> float:
        """Return by how much the half changes with the token, per product."""
        if not path.starts:
            return 0.0
        embedding = linear.model.embed.weight[list(TOKENS), path.nodes[0].channel].tolist()
        return (embedding[0] - embedding[1]) / path.starts[0].weight

    found = sum(path.product * share(path.query) * share(path.key) for path in qk_paths(linear))
    assert found == pytest.approx(expected) and abs(found) > 0.1


def walks(circuit: Circuit, nodes: tuple[Node, ...]) -> list[tuple[Node, ...]]:
    """Return every walk over edges and residual links that begins with these nodes and ends anywhere."""
    onward = {link.target for link in [*circuit.edges, *circuit.residual_links()] if link.source == nodes[-1]}
    return [nodes, *(walk for node in onward for walk in walks(circuit, (*nodes, node)))]


def test_lists_every_walk_from_a_reader_to_the_answers_and_to_scores(linear: Circuit) -> None:
    readers = [
        Node(site, c) for site, channels in linear.nodes.items() for c in channels if "act_in" in site or "final" in site
    ]
    expected = [walk for node in readers for walk in walks(linear, (node,))]
    paths, pairs = list(ov_paths(linear)), list(qk_paths(linear))
    positive, negative = linear.model.unembed.weight[list(answer_tokens(linear))]
    ov = [
        walk for walk in expected if walk[-1].site == "final_resid" and positive[walk[-1].channel] != negative[walk[-1].channel]
    ]
    assert sorted(path.nodes for path in paths) == sorted(ov)
    queries = [walk for walk in expected if walk[-1].site.endswith("attn.q")]
    keys = [walk for walk in expected if walk[-1].site.endswith("attn.k")]
    expected_pairs = [(q, k) for q in queries for k in keys if (q[-1].site[0], q[-1].channel) == (k[-1].site[0], k[-1].channel)]
    assert sorted((pair.query.nodes, pair.key.nodes) for pair in pairs) == sorted(expected_pairs)
    assert count_paths(linear) == (len(paths), len(pairs)) and len(paths) > 50 < len(pairs)
    for found in (paths, pairs):
        assert all(abs(b.product) <= abs(a.product) * (1 + 1e-12) for a, b in pairwise(found))


def test_products_and_starts_by_hand(linear: Circuit) -> None:
    weights = {edge[:2]: edge.weight for edge in [*linear.edges, *linear.residual_links()]}
    positive, negative = answer_tokens(linear)
    unembed = (linear.model.unembed.weight * linear.model.norm.gain).tolist()
    for path in list(ov_paths(linear, n_tokens=2))[::20]:
        first, last = path.nodes[0], path.nodes[-1]
        column = linear.model.embed.weight[:, min(first.channel, 7)]
        gain = 1.0
        if first.site != "final_resid":
            layer, sublayer, _ = first.site.split(".")
            reader = getattr(linear.model.layers[int(layer)], sublayer).reader
            gain = torch.cat([reader.norm.gain, reader.position_norm.gain])[first.channel].item()
        if first.channel >= 8:
            assert path.starts == () and "position" in str(path)
        else:
            assert [start.token for start in path.starts] == column.abs().argsort(descending=True, stable=True)[:2].tolist()
            gain *= path.starts[0].weight
        inner = math.prod(weights[pair] for pair in pairwise(path.nodes))
        difference = unembed[positive][last.channel] - unembed[negative][last.channel]
        assert path.kind is PathKind.ov and path.product == pytest.approx(gain * inner * difference)
    for pair in list(qk_paths(linear))[::100]:
        assert pair.product == pytest.approx(pair.query.product * pair.key.product / 2)
        assert (pair.query.kind, pair.key.kind) == (PathKind.query, PathKind.key)


def test_paths_are_printed_with_their_tokens_nodes_and_product(circuit: Circuit) -> None:
    path = next(ov_paths(circuit, n_tokens=1))
    start = path.starts[0]
    assert circuit.model.embed.weight[start.token, path.nodes[0].channel].item() == pytest.approx(start.weight)
    text = f"{path.product:+.3g}  {start.text!r} -> {' -> '.join(map(str, path.nodes))} -> answers"
    assert str(path) == text and start.text == circuit.tokenizer.token(start.token)


def test_swapped_answers_flip_every_sign(circuit: Circuit) -> None:
    there = [path.product for path in ov_paths(circuit)]
    back = [path.product for path in ov_paths(circuit, answers=("')\n", '")\n'))]
    assert there and there == [-product for product in back]


def test_refuses_answers_that_it_cannot_tell_apart(circuit: Circuit) -> None:
    several = dataclasses.replace(circuit, task=dataclasses.replace(circuit.task, answers=None))
    with pytest.raises(UserError, match="give answers="):
        ov_paths(several)
    with pytest.raises(UserError, match="answers that part"):
        ov_paths(circuit, answers=('"', '"'))
    with pytest.raises(UserError, match="tokens of this task"):
        count_paths(circuit, answers=(" a", " b"))
    with pytest.raises(UserError, match="n_tokens is 0"):
        qk_paths(circuit, n_tokens=0)
