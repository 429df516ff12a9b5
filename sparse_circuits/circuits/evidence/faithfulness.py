"""Everything that is held against a circuit, on pairs that nothing was fitted to.

Sources: Gao et al. 2025, section 2.2, figure 32, appendices A.5 and E; Drori 2026 for the controls that a small unfaithful
circuit fails. Three kinds of intervention, each scored in its own terms:
- all but a part of the model ablated: the circuit's calibration stays as it is. Random circuits are also scored with one of
  their own, fitted on the very pairs that they are scored on, so that this control has every advantage.
- some nodes of the whole model ablated (the circuit's own, or as many others). No calibration: the model needs none.
- the search gone again where it must fail (controls.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps, resampled
from sparse_circuits.circuits.activations import prompt_activations
from sparse_circuits.circuits.card import Card, Check, Control, check
from sparse_circuits.circuits.correlation import varies
from sparse_circuits.circuits.discovery.discretise import top_units
from sparse_circuits.circuits.discovery.search import Found, Search
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.evidence.controls import Nonsense
from sparse_circuits.circuits.evidence.fidelity import interchange, node_fidelity, pattern_errors
from sparse_circuits.circuits.margin import TapsOf, answer_margins
from sparse_circuits.circuits.nodes import by_site, channels_of, mark
from sparse_circuits.circuits.norms import FrozenNorms
from sparse_circuits.circuits.partial import draw_parts, partial_taps
from sparse_circuits.circuits.side_by_side import side_by_side
from sparse_circuits.circuits.subgraph import subgraph_taps
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.model import ModelConfig, Node, Transformer, node_sites
from sparse_circuits.model.taps import Taps
from sparse_circuits.tasks import PairBatch, task_losses
from sparse_circuits.tasks.calibrate import calibrate

RATES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Probabilities at which what is outside a circuit is ablated."""
SUFFICIENT = 0.2
"""Most loss of a circuit on held-out pairs, whatever share of the outside is ablated, in nats."""
NECESSARY = 0.6
"""Least loss of the model without its circuit; chance is ln 2 = 0.69."""
FAILING = 0.5
"""Least loss of what must not be a circuit: random nodes, nonsense, random weights."""
HARMLESS = 0.3
"""Most loss of the model without as many random nodes outside its circuit."""


@dataclass(frozen=True)
class CardConfig:
    n_random: int | None = None
    """Random circuits drawn; None: as many as the budget stands for."""
    n_outside: int = 10
    """Random sets of outside nodes ablated."""
    n_partial: int | None = None
    """Random parts of the outside ablated, at every rate; None: as many as the budget stands for."""
    n_resample: int = 4
    """Draws of random pretraining positions; 0 leaves the check out."""
    controls: list[Control] | None = None
    """Where to search again, and fail: swapped, coin, random_weights; None: where the budget says."""
    n_controls: int = 1
    """Searches of each of these kinds; 0 leaves them out."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "n_random", "n_outside", "n_partial", of="card.")
        for name in ("n_resample", "n_controls"):
            if getattr(self, name) < 0:
                raise UserError(f"card.{name} is {getattr(self, name)}: it must not be negative.")


@torch.no_grad()
def assess(search: Search, found: Found, controls: Nonsense, *, config: CardConfig) -> Card:
    """Run every check of a circuit on held-out pairs.

    Args:
        search: the search that found it, with the model, the pairs and the means.
        found: the circuit.
        controls: the same search where it must fail.
        config: how many draws; all of them said.

    Raises:
        UserError: a number of draws is left to a budget.
    """
    for name in ("n_random", "n_partial"):
        if getattr(config, name) is None:
            raise UserError(f"card.{name} is None, which only extract can fill in from its budget: give a number of draws.")
    model, batch, subgraph = search.model, search.pairs.held_out, found.subgraph
    taps = subgraph_taps(model, subgraph, search.means)
    return Card(
        n_nodes=sum(map(len, subgraph.nodes.values())),
        n_edges=len(subgraph.edges),
        nodes_per_site={site: len(channels) for site, channels in subgraph.nodes.items()},
        edges_per_link=dict(Counter(f"{edge.source.site} -> {edge.target.site}" for edge in subgraph.edges)),
        target_loss=search.target_loss,
        n_pairs=batch.n_pairs,
        checks=list(_checks(search, found, taps, controls, config)),
        without_nodes={str(piece): loss for piece, loss in found.without.items() if isinstance(piece, Node)},
        without_edges={str(piece): loss for piece, loss in found.without.items() if isinstance(piece, Edge)},
        fidelity=node_fidelity(model, batch, subgraph.nodes, taps),
        pattern_error=pattern_errors(model, batch, subgraph.nodes, taps),
        interchange=interchange(model, batch, subgraph.nodes, taps, found.calibration),
    )


def _checks(search: Search, found: Found, taps: Taps, controls: Nonsense, config: CardConfig) -> Iterator[Check]:
    model, batch, means, calibration = search.model, search.pairs.held_out, search.means, found.calibration
    kept = mark(found.subgraph.nodes, model.config)
    generator = torch.Generator().manual_seed(search.seed)

    def margins(*runs: Taps | TapsOf | None) -> Float[Tensor, "n_draws n_prompts"]:
        rows = side_by_side(lambda run: answer_margins(model, batch, taps=run), runs, device=search.device)
        return torch.stack(list(rows))

    def ablated(*parts: Bool[Tensor, " node"]) -> Float[Tensor, "n_draws n_prompts"]:
        return margins(*(ablation_taps(part, means, model.config) for part in parts))

    own = margins(taps)
    yield check("model", "nothing ablated", margins(None))
    yield check("circuit", "everything outside ablated, calibrated", calibration(own), at_most=SUFFICIENT)
    yield check("circuit_raw", "the same before calibration", own)
    yield check("necessity", "only the circuit's nodes ablated", ablated(~kept), at_least=NECESSARY)
    alive = live_nodes(model, batch)
    drawn = [random_nodes(kept, alive, model.config, generator=generator) for _ in range(config.n_random)]
    random = ablated(*drawn)
    about = f"best of {config.n_random} random circuits of equal size at every site"
    yield check("random", about, _best(calibration(random)), at_least=FAILING)
    refitted = torch.stack([calibrate(row, max_scale=search.max_scale)(row) for row in random])
    yield check("random_calibrated", f"{about}, each calibrated for itself", _best(refitted))
    drawn = [random_nodes(kept, alive & ~kept, model.config, generator=generator) for _ in range(config.n_outside)]
    about = f"as many random live nodes outside ablated: mean of {config.n_outside} draws"
    yield check("outside", about, ablated(*(~each for each in drawn)), at_most=HARMLESS)
    yield check("ablated", "every node ablated", calibration(ablated(torch.zeros_like(kept))))
    for rate in RATES:
        n_draws = config.n_partial if 0 < rate < 1 else 1
        seeds = range(search.seed, search.seed + n_draws)
        draws = [draw_parts(model, n_pairs=batch.n_pairs, rate=rate, seed=seed) for seed in seeds]
        parts = [partial_taps(model, found.subgraph, means, draw) for draw in draws]
        about = f"nodes and edges outside ablated with probability {rate}, mean of {n_draws} draws for every pair"
        yield check(f"partial_{rate}", about, calibration(margins(*parts)), at_most=SUFFICIENT)
    about = "the circuit, norms dividing as in the unpruned run"
    yield check("frozen_norms", about, calibration(margins(FrozenNorms(model, batch).under(taps))), at_most=SUFFICIENT)
    if config.n_resample and means.sample is not None:
        about = f"outside nodes at values of random pretraining positions: mean of {config.n_resample} draws"
        others = resampled(model, means, range(search.seed, search.seed + config.n_resample))
        runs = [subgraph_taps(model, found.subgraph, other) for other in others]
        yield check("resample", about, calibration(margins(*runs)))
    every = [each for searches in controls.values() for each in searches]
    margins_of = side_by_side(lambda each: equal_size(each, found.n_ranked), every, device=search.device)
    for control, searches in controls.items():
        about = f"the same search, {control.value}: its {found.n_ranked} best nodes"
        yield check(control.name, about, torch.stack(list(islice(margins_of, len(searches)))), at_least=FAILING)


def equal_size(search: Search, n_nodes: int) -> Float[Tensor, " n_prompts"]:
    """Return what the search's `n_nodes` best nodes say on its held-out pairs, calibrated on its validation pairs."""
    return top_margins(search, search.node_mask, n_nodes)


def top_margins(search: Search, rank: Float[Tensor, " node"], n_nodes: int) -> Float[Tensor, " n_prompts"]:
    """Return what the `n_nodes` nodes of highest rank say on held-out pairs, calibrated on validation pairs."""
    kept = top_units(rank, n_nodes)
    taps = ablation_taps(kept, search.means, search.model.config)
    margins = answer_margins(search.model, search.pairs.validation, taps=taps)
    calibration = calibrate(margins, max_scale=search.max_scale)
    return calibration(answer_margins(search.model, search.pairs.held_out, taps=taps))


def _best(margins: Float[Tensor, "n_draws n_prompts"]) -> Float[Tensor, "1 n_prompts"]:
    """Return the margins of the draw with the lowest loss."""
    losses = torch.stack([task_losses(row).mean() for row in margins])
    return margins[losses.argmin()].unsqueeze(0)


def live_nodes(model: Transformer, batch: PairBatch) -> Bool[Tensor, " node"]:
    """Mark the nodes whose activation is not the same at every token of the task's prompts."""
    values = prompt_activations(model, batch, node_sites(model.config))
    return torch.cat([varies(rows) for rows in values.values()]).cpu()


def random_nodes(
    like: Bool[Tensor, " node"], allowed: Bool[Tensor, " node"], config: ModelConfig, *, generator: torch.Generator
) -> Bool[Tensor, " node"]:
    """Draw as many allowed nodes at every site as `like` has there, or all of them where there are fewer."""
    drawn = torch.zeros_like(like)
    views, choices = by_site(drawn, config), by_site(allowed, config)
    for site, channels in channels_of(like, config).items():
        candidates = choices[site].nonzero().squeeze(1)
        chosen = torch.randperm(len(candidates), generator=generator)[: len(channels)]
        views[site][candidates[chosen]] = True
    return drawn
