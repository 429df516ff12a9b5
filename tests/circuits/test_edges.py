"""Edges: exactly the nonzero weights between circuit nodes, by brute force over the model's own parameters."""

import torch

from sparse_circuits.circuits.edges import (
    Edge,
    circuit_edges,
    embedding_links,
    nodes_without_links,
    residual_links,
    unembedding_links,
)
from sparse_circuits.circuits.nodes import channels_of, count_nodes
from sparse_circuits.model import ModelConfig, Node, Transformer, record
from sparse_circuits.model.config import Positions

CONFIG = ModelConfig(
    n_layers=2, d_model=8, n_ctx=6, d_head=4, d_mlp=12, positions=Positions.concatenated, d_pos=2, abs_topk=1.0
)


def sparse_model() -> Transformer:
    model = Transformer(CONFIG, d_vocab=20).requires_grad_(False)
    for name, weight in model.named_parameters():
        if weight.ndim == 2 and name != "bigram":
            weight.mul_(torch.rand_like(weight) < 0.3)
        if name.endswith("gain"):
            weight.add_(torch.rand_like(weight))
    return model


def some_nodes(share: float = 0.5) -> dict[str, list[int]]:
    return channels_of(torch.rand(count_nodes(CONFIG)) < share, CONFIG)


def test_edges_are_the_nonzero_weights_between_nodes() -> None:
    model, nodes = sparse_model(), some_nodes()
    weights = dict(model.named_parameters())
    width = CONFIG.d_attn
    expected = set()
    for layer in range(2):
        qkv, out = weights[f"layers.{layer}.attn.qkv.weight"], weights[f"layers.{layer}.attn.out.weight"]
        into, back = weights[f"layers.{layer}.mlp.into.weight"], weights[f"layers.{layer}.mlp.out.weight"]
        matrices = {
            ("attn.act_in", "attn.q"): qkv[:width],
            ("attn.act_in", "attn.k"): qkv[width : 2 * width],
            ("attn.act_in", "attn.v"): qkv[2 * width :],
            ("attn.v", "attn.resid_delta"): out,
            ("mlp.act_in", "mlp.post_act"): into,
            ("mlp.post_act", "mlp.resid_delta"): back,
        }
        for (a, b), matrix in matrices.items():
            for target in nodes.get(f"{layer}.{b}", []):
                for source in nodes.get(f"{layer}.{a}", []):
                    if matrix[target, source] != 0:
                        ends = Node(f"{layer}.{a}", source), Node(f"{layer}.{b}", target)
                        expected.add(Edge(*ends, matrix[target, source].item()))
    found = circuit_edges(model, nodes)
    assert set(found) == expected and len(found) == len(expected) > 10


def test_residual_links_join_a_writer_to_every_later_reader_of_its_channel() -> None:
    nodes = {
        "0.attn.act_in": [3],
        "0.attn.resid_delta": [3, 5],
        "0.mlp.act_in": [3, 9],
        "0.mlp.resid_delta": [5],
        "1.attn.act_in": [5],
        "final_resid": [3],
    }
    model = sparse_model()
    found = {(str(link.source), str(link.target)): link.weight for link in residual_links(model, nodes)}
    assert found == {
        ("0.attn.resid_delta[3]", "0.mlp.act_in[3]"): model.layers[0].mlp.reader.norm.gain[3].item(),
        ("0.attn.resid_delta[5]", "1.attn.act_in[5]"): model.layers[1].attn.reader.norm.gain[5].item(),
        ("0.mlp.resid_delta[5]", "1.attn.act_in[5]"): model.layers[1].attn.reader.norm.gain[5].item(),
        ("0.attn.resid_delta[3]", "final_resid[3]"): 1.0,
    }


def test_embedding_links_cover_the_channels_read_and_not_the_positions() -> None:
    model = sparse_model()
    found = embedding_links(model, {"0.attn.act_in": [1, 8], "0.attn.q": [2], "0.attn.resid_delta": [4], "final_resid": [6]})
    assert {link.channel for link in found} == {1, 6}
    for channel in (1, 6):
        weights = {link.token: link.weight for link in found if link.channel == channel}
        column = model.embed.weight[:, channel]
        assert weights == {int(token): column[token].item() for token in column.nonzero()}


def test_unembedding_links_give_the_logits_of_the_normalised_stream() -> None:
    model = sparse_model()
    tokens = torch.randint(20, (1, 6))
    channels, answers = list(range(8)), [4, 11]
    stream = record(model, tokens, "final_resid")["final_resid"]
    unit = stream / (stream.pow(2).mean(-1, keepdim=True) + torch.finfo(torch.float32).eps).sqrt()
    logits = dict.fromkeys(answers, 0.0)
    for link in unembedding_links(model, {"final_resid": channels}, answers):
        logits[link.token] += link.weight * unit[0, -1, link.channel].item()
    expected = (model(tokens) - model.bigram[tokens])[0, -1, answers]
    torch.testing.assert_close(torch.tensor([logits[token] for token in answers]), expected)


def test_nodes_without_links_are_listed() -> None:
    edge = Edge(Node("0.attn.act_in", 1), Node("0.attn.q", 2), 0.5)
    assert nodes_without_links({"0.attn.act_in": [1, 3], "0.attn.q": [2]}, [edge]) == [Node("0.attn.act_in", 3)]
