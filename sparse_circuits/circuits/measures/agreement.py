"""Whether two searches found the same circuit: overlap of nodes and edges, between seeds of a search or of a model.

- Circuits of one model: nodes are the same where they are the same channel. With `functional_matching`, also where their
  activations correlate by at least 0.95 on the same prompts, so that one of two twins counts for the other.
- Circuits of two models (same shape of layers, another seed): channels have no common names, so `match_models` first pairs
  the live channels of every site, one to one, for the largest sum of |correlation| (the Hungarian method). A random pairing
  of the same live channels is its control: its correlations and the overlap under it are what chance gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from sparse_circuits.circuits.activations import prompt_activations
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.correlation import similarities, varies
from sparse_circuits.circuits.nodes import Channels, list_nodes
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node, Transformer, node_sites
from sparse_circuits.tasks import PairBatch

SAME_FUNCTION = 0.95
SiteValues = Mapping[str, Float[Tensor, "n_tokens width"]]


class Overlap(NamedTuple):
    """How much two sets have in common."""

    n_first: int
    n_second: int
    n_shared: int

    @property
    def jaccard(self) -> float:
        """The share of both sets together that is in both; 1 for two empty sets."""
        n_either = self.n_first + self.n_second - self.n_shared
        return self.n_shared / n_either if n_either else 1.0

    @property
    def of_smaller(self) -> float:
        """The share of the smaller set that is in the other, too; 1 where it is empty."""
        n_smaller = min(self.n_first, self.n_second)
        return self.n_shared / n_smaller if n_smaller else 1.0


class Agreement(NamedTuple):
    """Overlap of two circuits."""

    nodes: Overlap
    edges: Overlap
    nodes_by_site: dict[str, Overlap]
    edges_by_link: dict[str, Overlap]
    """Keyed `source site -> target site`."""


class Matching(NamedTuple):
    """Which node of the second stands for which of the first, one to one within a site."""

    nodes: dict[Node, Node]
    correlations: dict[Node, float]
    """|correlation| of each node of the first with its partner, over the tokens of the prompts."""

    @property
    def mean_correlation(self) -> float:
        """Mean of |correlation| over the pairs; 0 without any."""
        return sum(self.correlations.values()) / len(self.correlations) if self.correlations else 0.0


class MatchedModels(NamedTuple):
    """Two models' live nodes in pairs."""

    matching: Matching
    """Of the largest sum of |correlation|."""
    control: Matching
    """At random."""


def agreement(first: Circuit, second: Circuit, *, matching: Matching | None = None) -> Agreement:
    """Return the overlap of two circuits.

    Args:
        matching: from nodes of the first to nodes of the second; None: a node is itself, which takes circuits of one model.

    Raises:
        UserError: circuits of two models without a matching.
    """
    if matching is None and first.model_hash != second.model_hash:
        raise UserError(
            "These circuits are of two models, whose channels have no common names: give matching=match_models(...)."
        )
    partner = (lambda node: node) if matching is None else matching.nodes.get
    nodes, edges = [set(list_nodes(each.nodes)) for each in (first, second)], [_edges(each) for each in (first, second)]
    shared_nodes = {node for node in nodes[0] if partner(node) in nodes[1]}
    shared_edges = {ends for ends in edges[0] if tuple(map(partner, ends)) in edges[1]}
    return Agreement(
        nodes=Overlap(*map(len, nodes), len(shared_nodes)),
        edges=Overlap(*map(len, edges), len(shared_edges)),
        nodes_by_site=_grouped(*nodes, shared_nodes, lambda node: node.site),
        edges_by_link=_grouped(*edges, shared_edges, lambda ends: f"{ends[0].site} -> {ends[1].site}"),
    )


def _edges(circuit: Circuit) -> set[tuple[Node, Node]]:
    return {(edge.source, edge.target) for edge in circuit.edges}


def _grouped(first: set, second: set, shared: set, group: Callable[[Any], str]) -> dict[str, Overlap]:
    counts = [Counter(map(group, each)) for each in (first, second, shared)]
    return {name: Overlap(*(count[name] for count in counts)) for name in sorted({**counts[0], **counts[1]})}


def functional_matching(first: Circuit, second: Circuit, batch: PairBatch, *, at_least: float = SAME_FUNCTION) -> Matching:
    """Match the nodes of two circuits of one model: shared ones with themselves, the others with twins.

    Args:
        batch: pairs on whose prompts activations of the whole model are compared.
        at_least: the |correlation| that makes two nodes twins, above 0 and up to 1.

    Raises:
        UserError: `at_least` out of range.
    """
    if not 0 < at_least <= 1:
        raise UserError(f"at_least is {at_least}: give a correlation above 0 and up to 1.")
    values = prompt_activations(first.model, batch, node_sites(first.model.config))
    mine, yours = (set(list_nodes(each.nodes)) for each in (first, second))
    channels = [
        {site: [node.channel for node in sorted(own) if node.site == site] for site in values}
        for own in (mine - yours, yours - mine)
    ]
    twins = _matching((values, values), channels, lambda similarity: best_pairs(similarity, at_least=at_least))
    shared = mine & yours
    return Matching({node: node for node in shared} | twins.nodes, dict.fromkeys(shared, 1.0) | twins.correlations)


def match_models(first: Transformer, second: Transformer, batch: PairBatch, *, seed: int = 0) -> MatchedModels:
    """Match the live nodes of two models of one tokenizer, site by site, and at random.

    Args:
        batch: pairs on whose prompts activations are compared.
        seed: of the random matching.

    Raises:
        UserError: models of different depth or vocabulary.
    """
    shapes = [(model.config.n_layers, model.d_vocab) for model in (first, second)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"Models of {shapes[0]} and {shapes[1]} layers and token ids have no sites to match: compare seeds of one model."
        )
    values = tuple(prompt_activations(model, batch, node_sites(model.config)) for model in (first, second))
    live = [{site: varies(value).nonzero().squeeze(1).tolist() for site, value in each.items()} for each in values]
    generator = torch.Generator().manual_seed(seed)
    return MatchedModels(
        _matching(values, live, best_pairs), _matching(values, live, lambda s: random_pairs(s, generator=generator))
    )


def _matching(
    values: tuple[SiteValues, SiteValues], channels: Sequence[Channels], choose: Callable[[Tensor], list[tuple[int, int]]]
) -> Matching:
    nodes, correlations = {}, {}
    for site in values[0]:
        mine, yours = (each[site] for each in channels)
        similarity = similarities(values[0][site][:, mine], values[1][site][:, yours])
        for row, column in choose(similarity):
            nodes[Node(site, mine[row])] = Node(site, yours[column])
            correlations[Node(site, mine[row])] = similarity[row, column].item()
    return Matching(nodes, correlations)


def best_pairs(similarity: Float[Tensor, "n_first n_second"], *, at_least: float = 0.0) -> list[tuple[int, int]]:
    """Return the one-to-one pairs (row, column) of largest total similarity, out of those with `at_least` as much."""
    worth = torch.where(similarity >= at_least, similarity, 0)
    pairs = zip(*(each.tolist() for each in linear_sum_assignment(worth.cpu().numpy(), maximize=True)), strict=True)
    return [pair for pair in pairs if worth[pair] >= at_least]


def random_pairs(similarity: Float[Tensor, "n_first n_second"], *, generator: torch.Generator) -> list[tuple[int, int]]:
    """Return as many one-to-one pairs (row, column) as there can be, at random."""
    rows, columns = (torch.randperm(n, generator=generator).tolist() for n in similarity.shape)
    return list(zip(rows, columns, strict=False))
