"""What surrounds a circuit in its whole model: the weights of its nodes, and the tokens that its channels stand for.

in_model   of a node: {n_in, n_out, into, out}: how many nonzero weights end and begin there, and the largest of either
           kind, [[node, weight]]; the links through the residual stream are none of these
channels   {channel: {embed, unembed}} for every channel of the residual stream with a node of the circuit: the tokens
           whose embedding writes most to it, up and down, and those whose logits it moves most (the last norm's gain
           included), [[place in `texts`, weight]], the most positive first; positions' own channels are not in it
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.nodes import list_nodes
from sparse_circuits.model import Node, Transformer, links
from sparse_circuits.model.sites import FINAL
from sparse_circuits.report.numbers import nine_digits
from sparse_circuits.report.texts import Texts

N_WEIGHTS = 12
"""Weights listed of a node, in and out."""
N_TOKENS = 8
"""Tokens listed of a channel, up and down."""


@torch.no_grad()
def in_model(model: Transformer, node: Node) -> dict[str, Any]:
    """Return the weights that a node has in the whole model."""
    into, out = [], []
    for link in links(model.config):
        if link.target == node.site:
            into += _weights(link.source, model.link_weight(link)[node.channel])
        if link.source == node.site:
            out += _weights(link.target, model.link_weight(link)[:, node.channel])
    return {"n_in": len(into), "n_out": len(out), "into": _largest(into), "out": _largest(out)}


def _weights(site: str, row: Float[Tensor, " width"]) -> list[tuple[str, float]]:
    channels = row.nonzero().squeeze(1)
    return [(str(Node(site, c)), w) for c, w in zip(channels.tolist(), row[channels].tolist(), strict=True)]


def _largest(weights: list[tuple[str, float]]) -> list[list[Any]]:
    ordered = sorted(weights, key=lambda each: -abs(each[1]))
    return [[node, nine_digits(weight)] for node, weight in ordered[:N_WEIGHTS]]


@torch.no_grad()
def channel_tokens(circuit: Circuit, texts: Texts) -> dict[str, Any]:
    """Return the tokens of every channel of the residual stream that the circuit touches."""
    model = circuit.model
    touched = {
        node.channel
        for node in list_nodes(circuit.nodes)
        if node.site == FINAL or node.site.endswith(("act_in", "resid_delta"))
    }
    unembed = model.unembed.weight * model.norm.gain
    tables = {"embed": model.embed.weight, "unembed": unembed}
    return {
        str(channel): {name: _extremes(table[:, channel], circuit, texts) for name, table in tables.items()}
        for channel in sorted(touched)
        if channel < model.config.d_model  # behind them are positions
    }


def _extremes(column: Float[Tensor, " d_vocab"], circuit: Circuit, texts: Texts) -> list[list[Any]]:
    order = column.argsort(descending=True).tolist()
    largest = [token for token in order[:N_TOKENS] if column[token] > 0]
    smallest = [token for token in order[-N_TOKENS:] if column[token] < 0]
    places = texts.places([*largest, *smallest], circuit.tokenizer)
    return [[place, nine_digits(column[t].item())] for place, t in zip(places, [*largest, *smallest], strict=True)]
