"""What an exported program reads from its .npz: everything of the model that is no edge of the circuit, made small.

Let W be the matrix into a site and s the nodes that it reads; all else that it reads stands at its mean. Then what the
site's channels are given is (edges + rivals) a_s + constant, with
- rivals: the columns s of W, in the rows of channels outside the circuit, which compete with the circuit's (AbsTopK);
- constant: the bias and W's remaining entries times the means, the entries of cut edges among them; of an edge to which a merge
  has added weight, what that is more than W's (or less) is heard at the mean, too.
Where heads stand in between (v to attn.resid_delta), a mean arrives times the head's attention to all but its sink, so these
entries are summed by head. Sums are in float64; weights keep the model's dtype.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import reduce
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits import Circuit
from sparse_circuits.model import Link, links
from sparse_circuits.model.attention import Attention
from sparse_circuits.model.mlp import MLP
from sparse_circuits.model.reader import Reader
from sparse_circuits.model.sites import FINAL

Constants = dict[str, np.ndarray]


def written(circuit: Circuit) -> dict[str, bool]:
    """Return for every sublayer, in firing order, whether the circuit keeps anything of what it writes."""
    return {sublayer.site: f"{sublayer.site}.resid_delta" in circuit.nodes for _, sublayer in circuit.model.sublayers()}


@torch.no_grad()
def constants(circuit: Circuit, tokens: Sequence[int]) -> Constants:
    """Return the arrays of a circuit's program, by name.

    Args:
        circuit: the circuit.
        tokens: ids whose logits the program computes.
    """
    model = circuit.model
    found = {"embed": _own(model.embed.weight), **_readout(circuit, list(tokens))}
    if model.positions is not None:
        found["positions"] = _own(model.positions.table)
    for _, sublayer in model.sublayers():
        is_kept = written(circuit)[sublayer.site]
        found |= _sublayer(circuit, sublayer) if is_kept else _means(circuit, [f"{sublayer.site}.resid_delta"])
    return found


def _own(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def _double(tensor: Tensor) -> np.ndarray:
    return _own(tensor).astype(np.float64)  # a copy, even of float64


def _means(circuit: Circuit, sites: Sequence[str]) -> Constants:
    return {f"{site} mean": _double(circuit.means.sites[site]) for site in sites}


def _readout(circuit: Circuit, tokens: list[int]) -> Constants:
    """Return how the logits of `tokens` hang on the final nodes and on the current token."""
    model = circuit.model
    nodes = circuit.nodes.get(FINAL, [])
    weight = _own((model.unembed.weight * model.norm.gain)[tokens])
    outside = _double(circuit.means.sites[FINAL])
    outside[nodes] = 0
    found = {"unembed": weight[:, nodes].T, "unembed constant": weight @ outside}
    if model.bigram is not None:
        found["bigram"] = _own(model.bigram[:, tokens])
    return {**found, "tokens": np.array(tokens), **_means(circuit, [FINAL])}


def _sublayer(circuit: Circuit, sublayer: Attention | MLP) -> Constants:
    own = [link for link in links(circuit.model.config) if link.target.startswith(f"{sublayer.site}.")]
    found = {**_means(circuit, sorted({site for link in own for site in link})), **_gains(circuit, sublayer.reader)}
    if isinstance(sublayer, Attention):
        no_sink = torch.full((sublayer.n_heads,), -torch.inf)
        found[f"{sublayer.site} sink"] = _double(no_sink if sublayer.sink is None else sublayer.sink)
    for link in own:
        if link.target in circuit.nodes:
            found |= _given(circuit, link, _bias(sublayer, link))
    return found


def _gains(circuit: Circuit, reader: Reader) -> Constants:
    if reader.site not in circuit.nodes:
        return {}
    norms = {"gain": reader.norm, "position gain": reader.position_norm}
    return {f"{reader.site} {name}": _double(norm.gain) for name, norm in norms.items() if norm is not None}


def _bias(sublayer: Attention | MLP, link: Link) -> Float[Tensor, " width"] | None:
    name = link.target.split(".")[-1]
    if name == "resid_delta":
        return sublayer.out.bias
    bias = sublayer.qkv.bias if isinstance(sublayer, Attention) else sublayer.into.bias
    return bias.chunk(3)["qkv".index(name)] if name in ("q", "k", "v") and bias is not None else bias


def _given(circuit: Circuit, link: Link, bias: Tensor | None) -> Constants:
    """Return the constants of one weight matrix."""
    weight = _own(circuit.model.link_weight(link))
    sources, targets = (circuit.nodes.get(site, []) for site in link)
    rivals = np.zeros_like(weight)
    rivals[:, sources] = weight[:, sources]
    rivals[targets] = 0
    mean = _double(circuit.means.sites[link.source])
    held = (weight - rivals) * mean
    for edge in circuit.edges:
        if (edge.source.site, edge.target.site) == link:
            held[edge.target.channel, edge.source.channel] -= edge.weight * mean[edge.source.channel]
    found = {f"{link.target} rivals": rivals[:, sources].T}
    constant = np.zeros(len(weight)) if bias is None else _double(bias)
    if link.source.endswith(".v"):
        n_heads = circuit.model.config.heads
        found[f"{link.target} heads"] = reduce(held, "channel (head d) -> head channel", "sum", head=n_heads)
    else:
        constant = constant + held.sum(1)
    return {**found, f"{link.target} constant": constant}
