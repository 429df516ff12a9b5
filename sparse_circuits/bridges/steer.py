"""Steering a dense model by a node of the sparse one, through a bridge (Gao et al. 2025, section 2.3 and appendix A.4).

A node c at an `act_in` site stands behind its sublayer's norm, the bridge before it. With h the residual streams, G the
decoder's matrix at that place and a(t) the node's activation at token t, what a change of a(t) means to the dense sublayer is

    delta(t) = [a_counterfactual(t) - a_presented(t)] * rms(h_sparse) / rms(h_dense) * gain_dense * G[:, c] / gain_sparse[c],

root mean squares over the tokens and channels of a reference text. Where the dense norm is a LayerNorm, G[:, c] loses its
mean over channels, and rms(h_dense) is that of the stream so centred. delta(t), times a strength, is added to what the
sublayer reads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.bridges.hybrid import observe
from sparse_circuits.bridges.load import Bridged
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node, record
from sparse_circuits.model.dense import Dense, norm_at
from sparse_circuits.model.layout import only
from sparse_circuits.model.sites import match_sites

READS = {"attn.act_in": "resid_in", "mlp.act_in": "resid_mid"}
"""Kinds of sites that a sublayer reads, and those of the residual stream before them."""

Directions = Mapping[Node, Float[Tensor, " d_dense"]]
"""What one unit of each node's activation is to the dense sublayer that reads at its place."""
Changes = Mapping[str, Float[Tensor, "... d_dense"]]
"""What is added at each site of the dense model: to every token its own (batch, pos, d_dense), or to all the same (d_dense)."""


def steer(
    bridged: Bridged,
    nodes: Sequence[Node | str],
    from_prompt: str,
    to_prompt: str,
    *,
    reference: Int[Tensor, "n_rows n_pos"],
    strength: float = 1.0,
) -> Float[Tensor, " d_vocab"]:
    """Return the dense model's next-token probabilities after a prompt, steered towards another by nodes of the sparse model.

    Args:
        bridged: the models and the bridge.
        nodes: at `act_in` sites, such as `1.attn.act_in[17]`.
        from_prompt: what the model is shown.
        to_prompt: the counterfactual, of as many tokens.
        reference: ordinary text, on which the streams' sizes are measured.
        strength: 0: not at all, 1: by as much as the node differs between the prompts.

    Raises:
        UserError: a node is not at a site that the bridge leads from, or the prompts are not equally long.
    """
    nodes = [Node.parse(node) if isinstance(node, str) else node for node in nodes]
    return steer_along(bridged, directions(bridged, nodes, reference), from_prompt, to_prompt, strength=strength)


def steer_along(
    bridged: Bridged, along: Directions, from_prompt: str, to_prompt: str, *, strength: float = 1.0
) -> Float[Tensor, " d_vocab"]:
    """Return what `steer` returns, where the nodes' directions are known; arguments as there.

    Raises:
        UserError: the prompts are empty or not equally long.
    """
    prompts = [torch.tensor([bridged.tokenizer.encode(prompt)]) for prompt in (from_prompt, to_prompt)]
    if prompts[0].shape != prompts[1].shape:
        raise UserError(
            f"The prompts have {prompts[0].shape[1]} and {prompts[1].shape[1]} tokens: a node is compared token by token, so"
            " give two of equal length."
        )
    if not prompts[0].numel():
        raise UserError("The prompts are empty: give at least one token.")
    presented, other = (prompt.to(bridged.sparse.embed.weight.device) for prompt in prompts)
    changes = node_changes(bridged, along, presented, other)
    last = torch.tensor([presented.shape[1] - 1], device=presented.device)
    return steered(bridged.dense, presented, changes, strength=strength, at=last)[0].softmax(-1)


@torch.no_grad()
def directions(bridged: Bridged, nodes: Sequence[Node], reference: Int[Tensor, "n_rows n_pos"]) -> Directions:
    """Return for every node the direction of the dense model that one unit of it stands for.

    Raises:
        UserError: a node is not at a site that the bridge leads from.
    """
    places = {node: place_of(bridged, node) for node in nodes}
    maps = {place: _map_behind_norms(bridged, place, reference) for place in set(places.values())}
    return {node: maps[place][:, node.channel] for node, place in places.items()}


def _map_behind_norms(
    bridged: Bridged, place: int, reference: Int[Tensor, "n_rows n_pos"]
) -> Float[Tensor, "d_dense d_sparse"]:
    """Return, channel by channel, what one unit of what the sparse sublayer reads is to the dense one."""
    ours, theirs = bridged.bridge.crossings[place]
    gain, is_centred = norm_at(bridged.dense, theirs)
    decoder = bridged.bridge.decoder_matrix(place)
    decoder = decoder - decoder.mean(0) if is_centred else decoder
    ratio = size(bridged.sparse, ours, reference) / size(bridged.dense, theirs, reference, is_centred=is_centred)
    return ratio * gain.unsqueeze(1) * decoder / norm_at(bridged.sparse, ours).gain


def place_of(bridged: Bridged, node: Node) -> int:
    """Return the place of the bridge at which a node is read.

    Raises:
        UserError: there is none.
    """
    match_sites(bridged.sparse.config, node.site)
    layer, _, kind = node.site.partition(".")
    if kind not in READS:
        raise UserError(
            f"{node} is not at an act_in site, where bridges lead from: choose a node such as {layer}.attn.act_in[0]."
        )
    if node.channel >= bridged.sparse.config.d_model:
        raise UserError(
            f"{node} is a channel of the positions, which no bridge carries: choose one below {bridged.sparse.config.d_model}."
        )
    places = {crossing.sparse: place for place, crossing in enumerate(bridged.bridge.crossings)}
    site = f"{layer}.{READS[kind]}"
    if site not in places:
        raise UserError(f"The bridge does not lead from {site}, which {node} reads: it leads from {', '.join(places)}.")
    return places[site]


def size(model: Dense, site: str, reference: Int[Tensor, "n_rows n_pos"], *, is_centred: bool = False) -> Float[Tensor, ""]:
    """Return the root mean square of a model's residual stream over the tokens and channels of a text.

    Args:
        is_centred: whether every token's mean over channels is subtracted first.
    """
    (stream,) = observe(model, reference, [site]).streams
    stream = stream - stream.mean(-1, keepdim=True) if is_centred else stream
    return stream.square().mean().sqrt()


def reading_site(site: str) -> str:
    """Return what the sublayer behind a residual site reads: 0.resid_in -> 0.attn.act_in."""
    layer, _, kind = site.partition(".")
    return f"{layer}." + {resid: read for read, resid in READS.items()}[kind]


@torch.no_grad()
def node_changes(
    bridged: Bridged, along: Directions, presented: Int[Tensor, "batch pos"], other: Int[Tensor, "batch pos"]
) -> Changes:
    """Return what nodes' differences between two prompts are to the dense model.

    Args:
        along: the direction of each node.
        presented: the prompts that the model is shown.
        other: the counterfactual ones.
    """
    sites = sorted({node.site for node in along})
    before, after = (record(bridged.sparse, tokens, sites) for tokens in (presented, other))
    changes: dict[str, Tensor] = defaultdict(lambda: torch.zeros((), device=presented.device))
    for node, direction in along.items():
        difference = (after[node.site] - before[node.site])[..., node.channel]
        site = reading_site(bridged.bridge.crossings[place_of(bridged, node)].dense)
        changes[site] = changes[site] + difference.unsqueeze(-1) * direction
    return dict(changes)


@torch.no_grad()
def raw_changes(
    dense: Dense, sites: Sequence[str], presented: Int[Tensor, "batch pos"], other: Int[Tensor, "batch pos"]
) -> Changes:
    """Return by how much a dense model's own activations differ between two prompts: the most that steering there can do."""
    before, after = (observe(dense, tokens, sites).streams for tokens in (presented, other))
    width = dense.config.d_model
    return {site: (b - a)[..., :width] for site, a, b in zip(sites, before, after, strict=True)}


def random_directions(along: Directions, *, seed: int) -> Directions:
    """Return directions of the same norms that point anywhere."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for node, direction in along.items():
        drawn = torch.randn(direction.shape, generator=generator).to(direction)
        found[node] = drawn * (direction.norm() / drawn.norm())
    return found


@torch.no_grad()
def steered(
    dense: Dense,
    tokens: Int[Tensor, "batch pos"],
    changes: Changes,
    *,
    strength: float,
    at: Int[Tensor, " batch"] | None = None,
) -> Float[Tensor, "batch *pos d_vocab"]:
    """Return a dense model's logits with changes, times a strength, added to what its sublayers read.

    Args:
        at: read the logits at this position of each row only.
    """

    def add(change: Tensor) -> Tensor:
        def tap(value: Tensor) -> Tensor:
            # Of the last sublayer a pass that reads its logits at one position computes that position alone.
            here = change if change.ndim == 1 or value.shape[1] == change.shape[1] else only(change, at)
            beside = value.shape[-1] - change.shape[-1]  # our own models read positions beside the stream
            return value + strength * torch.nn.functional.pad(here, (0, beside)).to(value.dtype)

        return tap

    return dense(tokens, taps={site: add(change) for site, change in changes.items()}, at=at)
