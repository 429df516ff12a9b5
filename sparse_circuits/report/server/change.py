"""Changes of a model and of its circuit, as taps: nodes that are ablated, scaled or set, edges that are cut.

A change holds at every token. An ablated node stands at its mean, as what is outside a circuit does; a cut edge leaves its
reader with the mean of its source (circuits/cuts.py). To the whole model the same is done as to the circuit; in the circuit,
nodes outside stand at their means whatever is done to them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial

import torch
from torch import Tensor

from sparse_circuits.circuits import Circuit, Means
from sparse_circuits.circuits.cuts import cut_taps, cuts_of
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.errors import UserError, nearest
from sparse_circuits.model import ModelConfig, Node, Transformer, node_sites, site_width
from sparse_circuits.model.taps import Taps, chain

LARGEST = 1e6
"""What a node may be multiplied by or set to at most: far beyond any activation, and its square is still finite."""

Ends = tuple[Node, Node]


class Change(Enum):
    """What is done to a node."""

    ablate = "ablate"
    scale = "scale"
    set = "set"


@dataclass(frozen=True)
class Intervention:
    """A change of one node."""

    node: str
    """As `3.attn.q[17]`."""
    kind: Change
    value: float | None = None
    """What to multiply by or to set; None to ablate."""

    def __post_init__(self) -> None:
        if (self.value is None) != (self.kind is Change.ablate):
            raise UserError(f"{self.node}: scale and set take a value, ablate takes none (null).")
        if self.value is not None and not abs(self.value) <= LARGEST:
            raise UserError(f"{self.node}: {self.kind.name} takes a value from -{LARGEST:,.0f} to {LARGEST:,.0f}.")


def intervention_taps(interventions: Sequence[Intervention], config: ModelConfig, means: Means | None) -> Taps:
    """Return taps that change nodes, one change after the other where a node has several.

    Raises:
        UserError: the model has no such node, or it is to be ablated and there are no means.
    """
    by_site: dict[str, list[tuple[int, Callable[[Tensor], Tensor]]]] = defaultdict(list)
    for each in interventions:
        node = find_node(each.node, config)
        by_site[node.site].append((node.channel, _change(each, node, means)))
    return {site: _changed(changes) for site, changes in by_site.items()}


def find_node(text: str, config: ModelConfig) -> Node:
    """Read a node's name.

    Raises:
        UserError: it is no node of such a model.
    """
    node, sites = Node.parse(text), node_sites(config)
    if node.site not in sites:
        raise UserError(f'No nodes are at "{node.site}"{nearest(node.site, sites)}: give one such as {sites[0]}[0].')
    if node.channel >= site_width(config, node.site):
        raise UserError(f"{node.site} has {site_width(config, node.site)} channels, counted from 0: there is no {node}.")
    return node


def _change(intervention: Intervention, node: Node, means: Means | None) -> Callable[[Tensor], Tensor]:
    match intervention.kind:
        case Change.ablate:
            if means is None:
                raise UserError("A node is ablated to its mean, which extraction measures: extract a circuit, or set the node.")
            return partial(torch.full_like, fill_value=means.sites[node.site][node.channel].item())
        case Change.scale:
            return lambda value: value * intervention.value
        case Change.set:
            return partial(torch.full_like, fill_value=intervention.value)
    raise AssertionError(intervention.kind)


def _changed(changes: Sequence[tuple[int, Callable[[Tensor], Tensor]]]) -> Callable[[Tensor], Tensor]:
    def tap(value: Tensor) -> Tensor:
        value = value.clone()
        for channel, change in changes:
            value[..., channel] = change(value[..., channel])
        return value

    return tap


def find_edges(cuts: Sequence[tuple[str, str]], circuit: Circuit | None) -> set[Ends]:
    """Read the names of a circuit's edges.

    Raises:
        UserError: one is not in the circuit, or there is none to look in.
    """
    if cuts and circuit is None:
        raise UserError("Edges are those of a circuit: choose one before cutting.")
    known = {edge[:2] for edge in circuit.edges} if circuit else set()
    ends = [(Node.parse(source), Node.parse(target)) for source, target in cuts]
    for source, target in ends:
        if (source, target) not in known:
            raise UserError(f"{source} -> {target} is no edge of this circuit: cut one of those that it lists.")
    return set(ends)


def model_taps(model: Transformer, changes: Taps, cut: set[Ends], circuit: Circuit | None) -> Taps:
    """Return taps that change the whole model and cut its own weights at these edges of the circuit."""
    if circuit is None:
        return changes
    edges = [edge for edge in circuit_edges(model, circuit.nodes) if edge[:2] in cut]
    return chain(changes, cut_taps(model, cuts_of(edges, model.embed.weight.device), circuit.means))


def circuit_taps(circuit: Circuit, changes: Taps, cut: set[Ends]) -> Taps:
    """Return taps that leave only the circuit of its model, changed, and without these edges."""
    kept = [edge for edge in circuit.edges if edge[:2] not in cut]
    return chain(changes, replace(circuit, edges=kept).taps())
