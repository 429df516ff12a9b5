"""The card of a circuit: what it does on pairs that nothing was fitted to, and what its controls do.

Source: Gao et al. 2025, section 2.2, figure 32 and appendix A.5. Two kinds of intervention, each scored in its own terms:
- all but some nodes ablated: the circuit's calibration stays as it is. Random circuits are also scored with one of their own,
  fitted on the very pairs that they are scored on, so that this control has every advantage.
- some nodes of the whole model ablated (the circuit's own, or as many others). No calibration: the model needs none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.margin import PROMPTS_AT_ONCE, Score, answer_margins, score
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.nodes import Channels, by_site, channels_of, mark
from sparse_circuits.model import ModelConfig, Transformer, node_sites, record
from sparse_circuits.tasks import PairBatch
from sparse_circuits.tasks.calibrate import Calibration, calibrate


@dataclass(frozen=True)
class Card:
    """What is printed and stored with a circuit; scores are on held-out pairs."""

    n_nodes: int
    n_edges: int
    nodes_per_site: dict[str, int]
    edges_per_link: dict[str, int]
    """Keyed `source site -> target site`."""
    target_loss: float
    """What the calibrated circuit reaches on validation pairs."""
    n_pairs: int
    """Held-out pairs."""
    model: Score
    """The whole model."""
    circuit: Score
    """Sufficiency: everything outside the circuit ablated, calibrated."""
    circuit_raw: Score
    """The same before calibration."""
    ablated: Score
    """Everything ablated, under the circuit's calibration."""
    necessity: Score
    """The whole model with only the circuit's nodes ablated."""
    random: Score
    """The best of the random circuits of equal per-site size, drawn from nodes alive on the task."""
    random_calibrated: Score
    """The best of them, each with a calibration of its own."""
    n_random: int
    """Random circuits drawn."""
    outside: Score
    """The whole model with as many random live nodes outside the circuit ablated: mean over draws."""
    outside_worst_loss: float
    """The largest loss of these draws."""
    n_outside: int
    """Draws of outside nodes."""


@torch.no_grad()
def assess(
    model: Transformer,
    batch: PairBatch,
    nodes: Channels,
    edges: list[Edge],
    means: Means,
    calibration: Calibration,
    *,
    target_loss: float,
    max_scale: float,
    n_random: int = 50,
    n_outside: int = 10,
    seed: int = 0,
) -> Card:
    """Run every test of a circuit on held-out pairs.

    Args:
        model: the whole model.
        batch: pairs that neither masks nor calibration have seen.
        nodes, edges: the circuit.
        means: of this model.
        calibration: the circuit's, from validation pairs.
        target_loss: noted on the card.
        max_scale: bound of the random circuits' own calibrations.
        n_random: random circuits to draw.
        n_outside: sets of outside nodes to draw.
        seed: of the draws.
    """
    kept = mark(nodes, model.config)
    alive = live_nodes(model, batch)
    generator = torch.Generator().manual_seed(seed)

    def margins(kept: Bool[Tensor, " node"]) -> Float[Tensor, " n_prompts"]:
        return answer_margins(model, batch, taps=ablation_taps(kept, means, model.config))

    def random_sets(allowed: Bool[Tensor, " node"], n_draws: int) -> Iterator[Bool[Tensor, " node"]]:
        return (random_nodes(kept, allowed, model.config, generator=generator) for _ in range(n_draws))

    own = margins(kept)
    random = [margins(drawn) for drawn in random_sets(alive, n_random)]
    outside = [score(margins(~drawn)) for drawn in random_sets(alive & ~kept, n_outside)]
    return Card(
        n_nodes=int(kept.sum()),
        n_edges=len(edges),
        nodes_per_site={site: len(channels) for site, channels in nodes.items()},
        edges_per_link=dict(Counter(f"{edge.source.site} -> {edge.target.site}" for edge in edges)),
        target_loss=target_loss,
        n_pairs=batch.n_pairs,
        model=score(answer_margins(model, batch)),
        circuit=score(calibration(own)),
        circuit_raw=score(own),
        ablated=score(calibration(margins(torch.zeros_like(kept)))),
        necessity=score(margins(~kept)),
        random=best(calibration(each) for each in random),
        random_calibrated=best(calibrate(each, max_scale=max_scale)(each) for each in random),
        n_random=n_random,
        outside=Score(*(sum(values) / n_outside for values in zip(*((s.loss, s.accuracy) for s in outside), strict=True))),
        outside_worst_loss=max(each.loss for each in outside),
        n_outside=n_outside,
    )


def best(margins: Iterable[Float[Tensor, " n_prompts"]]) -> Score:
    """Return the score of the margins with the lowest loss."""
    return min(map(score, margins), key=lambda each: each.loss)


@torch.no_grad()
def live_nodes(model: Transformer, batch: PairBatch) -> Bool[Tensor, " node"]:
    """Mark the nodes whose activation is not the same at every token of the task's prompts."""
    first: dict[str, Tensor] = {}
    alive: dict[str, Tensor] = {}
    for tokens, last in zip(batch.tokens.split(PROMPTS_AT_ONCE), batch.last.split(PROMPTS_AT_ONCE), strict=True):
        is_prompt = torch.arange(tokens.shape[1], device=tokens.device) <= last.unsqueeze(1)
        for site, value in record(model, tokens, node_sites(model.config)).items():
            rows = value[is_prompt]
            varies = (rows != first.setdefault(site, rows[0])).any(0)
            alive[site] = alive[site] | varies if site in alive else varies
    return torch.cat(list(alive.values())).cpu()


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
