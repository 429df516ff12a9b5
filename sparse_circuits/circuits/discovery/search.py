"""The search for a circuit: everything that looks at train and validation pairs, and nothing that judges.

1. Learn a mask over nodes (discover.py); on validation pairs, find the smallest top-k set whose calibrated loss reaches the
   target in every run: alone; with norms dividing as in the unpruned model, unless norms are `free`; with random parts of the
   outside left in place, unless the objective is `full`. The largest is the circuit's validation loss in all that follows.
2. Learn a mask over the edges among these nodes; discretise it likewise.
3. Clean up, to a circuit in which every node and every edge is needed; merge writers that are proven to say the same.
The controls of the card go the very same way with nonsense for a task, or with a model that knows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from copy import copy
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.ablate import Ablation, StandIn, stand_in
from sparse_circuits.circuits.discovery.clean_up import Cleaned, Piece, clean_up
from sparse_circuits.circuits.discovery.discover import learn_mask
from sparse_circuits.circuits.discovery.discretise import N_BELOW, Discrete, Margins, discretise
from sparse_circuits.circuits.discovery.masks import MaskConfig
from sparse_circuits.circuits.discovery.merge import merge_redundant, proportional
from sparse_circuits.circuits.discovery.nearby import Nearby
from sparse_circuits.circuits.discovery.objective import Objective
from sparse_circuits.circuits.discovery.units import Units, edge_units, node_units, tied_qk
from sparse_circuits.circuits.edges import Edge, circuit_edges
from sparse_circuits.circuits.margin import TapsOf, answer_margins
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import channels_of
from sparse_circuits.circuits.norms import FrozenNorms, Norms
from sparse_circuits.circuits.partial import draw_parts, partial_taps
from sparse_circuits.circuits.sampler import TaskPairs
from sparse_circuits.circuits.side_by_side import Workers, on_one_thread
from sparse_circuits.circuits.subgraph import Subgraph, subgraph_taps
from sparse_circuits.model import Transformer
from sparse_circuits.model.taps import Taps
from sparse_circuits.run import Autocast
from sparse_circuits.tasks import Split
from sparse_circuits.tasks.calibrate import Calibration


class Found(NamedTuple):
    """A circuit, before anything was held against it."""

    subgraph: Subgraph
    calibration: Calibration
    without: dict[Piece, float]
    """The certificate: what the validation loss is at least, without each node and each edge."""
    n_ranked: int
    """Top-ranked nodes that reached the target, before edges and clean-up."""


IN_PARTS_COST = 2.0
"""A run that leaves parts of the outside in place computes all of the model, one of a circuit alone what its nodes read."""


class Run(NamedTuple):
    """One of the runs in which a part of the model has to reach the target."""

    taps_of: Callable[[Subgraph], Taps | TapsOf]
    cost: float
    """Of its time, in runs of a circuit alone."""


def learn_side_by_side(searches: Iterable[Search]) -> None:
    """Learn the node masks that are not learned yet, all at once: alone, none of them keeps two cores busy."""
    if not (some := [search for search in searches if search._node_mask is None]):
        return
    for search in some:
        search.run_unpruned()
    learned = Workers(lambda place: some[place].node_mask.tolist(), device=some[0].device)
    for search, mask in zip(some, learned(range(len(some))), strict=True):
        search.node_mask = torch.tensor(mask, device=search.device)


class Search:
    """What a search works on.

    Args:
        model: the model.
        pairs: the task's.
        means: what ablated nodes stand at (those of zero ablation are zeros).
        config: how masks are learned.
        target_loss: what the circuit has to reach on validation pairs, in nats.
        max_scale: bound of the calibration.
        seed: of masks and draws.
        autocast: for mask learning; whatever is measured is in the model's own precision.
    """

    def __init__(
        self,
        model: Transformer,
        pairs: TaskPairs,
        means: Means,
        config: MaskConfig,
        *,
        target_loss: float,
        max_scale: float,
        seed: int = 0,
        autocast: Autocast = nullcontext,
    ) -> None:
        self.model, self.pairs, self.config, self.seed = model, pairs, config, seed
        self.means = means.zeroed() if config.ablation is Ablation.zero else means
        self.parts = draw_parts(model, n_pairs=pairs.validation.n_pairs, seed=seed)
        self.target_loss, self.max_scale = target_loss, max_scale
        self.autocast = autocast
        self._node_mask: Float[Tensor, " node"] | None = None
        self._unpruned: dict[Split, FrozenNorms] = {}

    @property
    def learning_stand_in(self) -> StandIn:
        """What stands in for removed nodes while masks are learned."""
        return stand_in(self.config.ablation, self.model, self.means, seed=self.seed)

    def with_masks(self, config: MaskConfig) -> Search:
        """Return the same search with masks learned in another way."""
        search = self._like(self.model, self.pairs, self.means, config, seed=self.seed)
        search._unpruned = self._unpruned
        return search

    def aiming(self, target_loss: float) -> Search:
        """Return the same search with another target; what it has learned of the nodes stays learned."""
        search = copy(self)
        search.target_loss = target_loss
        return search

    def on(self, pairs: TaskPairs, *, seed: int) -> Search:
        """Return the same search for other pairs."""
        return self._like(self.model, pairs, self.means, self.config, seed=seed)

    def inside(self, model: Transformer, means: Means) -> Search:
        """Return the same search in another model."""
        return self._like(model, self.pairs, means, self.config, seed=self.seed)

    def _like(self, model: Transformer, pairs: TaskPairs, means: Means, config: MaskConfig, *, seed: int) -> Search:
        bounds = {"target_loss": self.target_loss, "max_scale": self.max_scale}
        return Search(model, pairs, means, config, **bounds, seed=seed, autocast=self.autocast)

    def run(self) -> Found | None:
        """Search to the end; None where no set of nodes reaches the target."""
        nodes = self.nodes()
        return None if nodes is None else self.refine(nodes)

    def learn_nodes(self) -> Float[Tensor, " node"]:
        """Return the mask parameters of all nodes."""
        units = node_units(self.model, self.learning_stand_in, self.config)
        tie = tied_qk(self.model.config).to(self.device) if self.config.tied_qk else None
        return self._learn(units, n_steps=self.config.n_steps, tie=tie)

    def nodes(self) -> Discrete | None:
        """Return the smallest set of top-ranked nodes that reaches the target."""
        mask = self.node_mask
        # The sizes below are left to the clean-up, which tries every node by itself.
        return self.discretise_nodes(mask, start=int((mask > 0).sum()), n_below=0)

    @property
    def node_mask(self) -> Float[Tensor, " node"]:
        """The mask parameters of all nodes, learned when first asked for."""
        # Not a cached property: before Python 3.12 its lock would let one search learn at a time.
        if self._node_mask is None:
            self._node_mask = self.learn_nodes()
        return self._node_mask

    @node_mask.setter
    def node_mask(self, learned: Float[Tensor, " node"]) -> None:
        self._node_mask = learned

    def discretise_nodes(self, rank: Float[Tensor, " node"], *, start: int, n_below: int = N_BELOW) -> Discrete | None:
        """Return the smallest set of nodes by any ranking that reaches the target; arguments as for `discretise`."""

        def margins(kept: Bool[Tensor, " node"]) -> Iterator[Float[Tensor, " n_prompts"]]:
            return self.margins(Subgraph(channels_of(kept, self.model.config)))

        return self._discretise(rank, margins, start=start, n_below=n_below)

    def refine(self, nodes: Discrete) -> Found:
        """Return what is left of these nodes and the edges among them when every edge and node is needed."""
        subgraph = Subgraph.whole(self.model, channels_of(nodes.kept, self.model.config))
        calibration = nodes.calibration
        if self.config.n_edge_steps and subgraph.edges:
            edges, calibration = self._edges(subgraph)
            subgraph = subgraph._replace(edges=edges)

        cleaned = self._clean(subgraph, calibration)
        return Found(cleaned.subgraph, calibration, cleaned.without, n_ranked=int(nodes.kept.sum()))

    def _clean(self, subgraph: Subgraph, calibration: Calibration) -> Cleaned:
        """Remove and merge by turns, until there is neither anything to remove nor to merge."""
        while True:
            cleaned = clean_up(subgraph, lambda base: Nearby(self, base, calibration).losses, target_loss=self.target_loss)
            if not (redundant := proportional(self.model, cleaned.subgraph, self.means)):
                return cleaned
            loss_of = Nearby(self, cleaned.subgraph, calibration).loss
            subgraph = merge_redundant(cleaned.subgraph, redundant, loss_of, target_loss=self.target_loss)
            if subgraph == cleaned.subgraph:
                return cleaned

    def _edges(self, subgraph: Subgraph) -> tuple[list[Edge], Calibration]:
        generator = torch.Generator().manual_seed(self.seed)
        units = edge_units(self.model, self.learning_stand_in, self.config, subgraph, generator=generator)
        mask = self._learn(units, n_steps=self.config.n_edge_steps)

        def chosen(kept: Bool[Tensor, " edge"]) -> list[Edge]:
            return [edge for edge, is_kept in zip(subgraph.edges, kept.tolist(), strict=True) if is_kept]

        def margins(kept: Bool[Tensor, " edge"]) -> Iterator[Float[Tensor, " n_prompts"]]:
            return self.margins(subgraph._replace(edges=chosen(kept)))

        found = self._discretise(mask, margins, start=int((mask > 0).sum()), n_below=0)
        # With all of its edges the subgraph reaches the target, so something is found.
        return chosen(found.kept), found.calibration

    @torch.no_grad()
    def margins(self, subgraph: Subgraph) -> Iterator[Float[Tensor, " n_prompts"]]:
        """Yield what a part of the model says on validation pairs in each run in which it has to reach the target."""
        for run in self.runs():
            yield answer_margins(self.model, self.pairs.validation, taps=run.taps_of(subgraph))

    def runs(self, *, within: Subgraph | None = None) -> list[Run]:
        """Return the runs in which a subgraph has to reach the target.

        Args:
            within: all of these nodes are some of this one's, whose weights are then listed once for all; None: of any.
        """
        among = None if within is None else circuit_edges(self.model, within.nodes)

        def alone(subgraph: Subgraph) -> Taps:
            return subgraph_taps(self.model, subgraph, self.means, among=among)

        def in_parts(subgraph: Subgraph) -> TapsOf:
            return partial_taps(self.model, subgraph, self.means, self.parts, among=among)

        def frozen(run: Callable[[Subgraph], Taps | TapsOf]) -> Callable[[Subgraph], TapsOf]:
            return lambda subgraph: self._frozen(Split.validation).under(run(subgraph))

        found = [] if self.config.norms is Norms.free else [Run(frozen(alone), cost=1)]
        if self.config.norms is not Norms.frozen:
            found.append(Run(alone, cost=1))
        if self.config.objective is not Objective.full:
            found.append(Run(frozen(in_parts) if self.config.norms is Norms.frozen else in_parts, cost=IN_PARTS_COST))
        return found

    def run_unpruned(self) -> None:
        """Run the unpruned model on the train pairs now, for all that learns masks on these, in processes of its own too."""
        if self.config.norms is not Norms.free:
            self._frozen(Split.train)

    def _frozen(self, split: Split) -> FrozenNorms:
        if split not in self._unpruned:
            pairs, autocast = getattr(self.pairs, split.name), self.autocast if split is Split.train else nullcontext
            self._unpruned[split] = FrozenNorms(self.model, pairs, autocast=autocast)
        return self._unpruned[split]

    def _learn(self, units: Units, *, n_steps: int, tie: Tensor | None = None) -> Tensor:
        with on_one_thread(self.device):
            return learn_mask(
                self.model,
                self.pairs.train,
                units,
                config=self.config,
                n_steps=n_steps,
                tie=tie,
                unpruned=None if self.config.norms is Norms.free else self._frozen(Split.train),
                seed=self.seed,
                autocast=self.autocast,
            )

    def _discretise(self, rank: Tensor, margins: Margins, *, start: int, n_below: int) -> Discrete | None:
        bounds = {"target_loss": self.target_loss, "max_scale": self.max_scale}
        # What serves the circuit alone must not spoil the answers of the whole, from which parts are removed.
        also = [] if self.config.objective is Objective.full else [self._whole]
        return discretise(rank, margins, start=start, n_below=n_below, also=also, **bounds)

    @cached_property
    @torch.no_grad()
    def _whole(self) -> Float[Tensor, " n_prompts"]:
        """The margins of the unpruned model on validation pairs."""
        return answer_margins(self.model, self.pairs.validation)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.embed.weight.device
