"""What a node of the sparse model is in the dense one: a direction, the tokens that excite it, how well it predicts the node.

The encoder's row of the node's channel, applied to the dense stream divided by its own root mean square at each token, is the
dense model's *projection*: what a sublayer that reads that direction behind a norm would see. R^2 is the share of the variance
of the node's activation, over the tokens of ordinary text, that the best line through the projection explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.bridges.hybrid import observe
from sparse_circuits.bridges.load import Bridged
from sparse_circuits.bridges.steer import place_of
from sparse_circuits.model import Node, record

N_BEFORE = 12
"""Tokens of context that are shown."""


@dataclass(frozen=True)
class Exciting:
    """A token at which the dense projection is large."""

    before: str
    """The tokens before it."""
    token: str
    projection: float
    activation: float
    """Of the sparse node there."""


@dataclass(frozen=True)
class NodeFeature:
    """A node's counterpart in the dense model."""

    node: str
    site: str
    """Of the dense model's residual stream."""
    r_squared: float
    """Share of the variance of the node's activation that the dense projection explains; 0 where either does not vary."""
    direction: list[float]
    """The encoder's row, of length 1."""
    tokens: list[Exciting]
    """The largest projections, in absolute value, first."""


@torch.no_grad()
def node_features(
    bridged: Bridged, nodes: Sequence[Node], rows: Int[Tensor, "n_rows n_pos"], *, n_tokens: int = 8
) -> list[NodeFeature]:
    """Return what nodes are in the dense model, over ordinary text.

    Args:
        nodes: at `act_in` sites of the sparse model.
        rows: the text.
        n_tokens: most exciting tokens to return of each.

    Raises:
        UserError: a node is not at a site that the bridge leads from.
    """
    places = {node: place_of(bridged, node) for node in nodes}
    crossings = bridged.bridge.crossings
    activations = record(bridged.sparse, rows, sorted({node.site for node in nodes}))
    sites = [crossings[place].dense for place in sorted(set(places.values()))]
    streams = dict(zip(sites, observe(bridged.dense, rows, sites).streams, strict=True))
    found = []
    for node, place in places.items():
        stream = streams[crossings[place].dense]
        row = bridged.bridge.encoder_matrix(place)[node.channel]
        projection = stream / stream.square().mean(-1, keepdim=True).sqrt() @ row
        activation = activations[node.site][..., node.channel]
        largest = projection.flatten().abs().topk(min(n_tokens, projection.numel())).indices.tolist()
        tokens = [_exciting(bridged, rows, divmod(each, rows.shape[1]), projection, activation) for each in largest]
        direction = (row / row.norm().clamp_min(torch.finfo(row.dtype).tiny)).tolist()
        found.append(NodeFeature(str(node), crossings[place].dense, r_squared(projection, activation), direction, tokens))
    return found


def r_squared(x: Float[Tensor, "n_rows n_pos"], y: Float[Tensor, "n_rows n_pos"]) -> float:
    """Return the squared correlation, the share of y's variance that the best line through x explains; 0 where one is flat."""
    x, y = (each.double() - each.double().mean() for each in (x, y))
    spread = x.square().sum() * y.square().sum()
    return 0.0 if spread == 0 else ((x * y).sum().square() / spread).item()


def _exciting(bridged: Bridged, rows: Tensor, at: tuple[int, int], projection: Tensor, activation: Tensor) -> Exciting:
    row, pos = at
    ids = rows[row].tolist()
    before = bridged.tokenizer.decode(ids[max(0, pos - N_BEFORE) : pos])
    return Exciting(before, bridged.tokenizer.token(ids[pos]), projection[at].item(), activation[at].item())
