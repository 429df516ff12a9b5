"""How a dense model's answers move with the strength of steering, beside its controls (Gao et al. 2025, figure 9).

- `node`: along what nodes of the sparse model mean to the dense one;
- `random`: along random directions of the same norms, by the same differences of the nodes;
- `raw`: by the difference of the dense model's own activations, at the same sites.

Every prompt of every pair is steered towards the other. Side effects are measured on unrelated text, at each of whose tokens
the model is pushed by as much, and the way, as positive prompts are at the token at which they are pushed most, in the mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.bridges.load import Bridged
from sparse_circuits.bridges.losses import divergence
from sparse_circuits.bridges.steer import (
    Changes,
    directions,
    node_changes,
    place_of,
    random_directions,
    raw_changes,
    reading_site,
    steered,
)
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.model import Node
from sparse_circuits.run import replacing
from sparse_circuits.tasks import PairBatch, answer_probabilities
from sparse_circuits.tasks.bootstrap import bootstrap_interval

WHAT_MOVES = {"counterfactual": "P(counterfactual answer)", "share": "its share of the two answers"}
STRENGTHS = tuple(tenth / 10 for tenth in range(11))


@dataclass(frozen=True)
class SteerConfig:
    strengths: list[float] = field(default_factory=lambda: list(STRENGTHS))
    """Multiples of the difference that are added; above 1 or below 0 is further than any prompt goes."""
    n_pairs: int = 64
    """Held-out pairs, both prompts of which are steered."""
    n_random: int = 10
    """Draws of random directions."""
    n_reference_tokens: int = 8192
    """Of ordinary text, on which sizes and side effects are measured."""
    seed: int = 0
    """Of pairs and draws."""

    def __post_init__(self) -> None:
        check_counts(vars(self), "n_pairs", "n_random", "n_reference_tokens", of="steer.")
        if not self.strengths:
            raise UserError("steer.strengths is empty: give at least one, such as [0, 0.5, 1].")


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts, and over draws where there are several, with its bootstrap interval (95 %) over pairs and draws."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Moved:
    """The answers at one strength."""

    strength: float
    counterfactual: Estimate
    """Probability of the other prompt's answer, among all tokens."""
    share: Estimate
    """The same of the two answers alone: what there is to see where a prompt could go on in many ways."""
    own: float
    """Probability of the prompt's own answer."""
    side_effect: float
    """KL of the answers on unrelated text from the model's own, in nats a token."""


@dataclass(frozen=True)
class SteeringCurves:
    """What steering along some nodes does to a dense model."""

    task: str
    nodes: list[str]
    n_pairs: int
    curves: dict[str, list[Moved]]
    """One each for node, random and raw."""


@torch.no_grad()
def steering_curves(
    bridged: Bridged,
    nodes: Sequence[Node],
    batch: PairBatch,
    reference: Int[Tensor, "n_rows n_pos"],
    *,
    task: str,
    config: SteerConfig,
) -> SteeringCurves:
    """Steer both prompts of every pair towards the other, along nodes and along the controls.

    Args:
        nodes: at `act_in` sites of the sparse model.
        batch: held-out pairs.
        reference: ordinary text, for sizes and side effects.
        task: what the pairs are of.

    Raises:
        UserError: a node is not at a site that the bridge leads from.
    """
    other = batch.tokens.roll(batch.n_pairs, 0)
    along = directions(bridged, nodes, reference)
    sites = list(dict.fromkeys(reading_site(bridged.bridge.crossings[place_of(bridged, node)].dense) for node in nodes))
    drawn = [random_directions(along, seed=config.seed + number) for number in range(config.n_random)]
    changes = {
        "node": [node_changes(bridged, along, batch.tokens, other)],
        "random": [node_changes(bridged, each, batch.tokens, other) for each in drawn],
        "raw": [raw_changes(bridged.dense, sites, batch.tokens, other)],
    }
    ordinary = Ordinary(reference, bridged.dense(reference).log_softmax(-1))
    curves = {name: [_moved(bridged, batch, ordinary, each, s) for s in config.strengths] for name, each in changes.items()}
    return SteeringCurves(task, [str(node) for node in nodes], batch.n_pairs, curves)


class Ordinary(NamedTuple):
    """Unrelated text, and what the unsteered model answers to it."""

    tokens: Int[Tensor, "n_rows n_pos"]
    answers: Float[Tensor, "n_rows n_pos d_vocab"]
    """Log probabilities."""


def _moved(bridged: Bridged, batch: PairBatch, ordinary: Ordinary, draws: Sequence[Changes], strength: float) -> Moved:
    """Return the answers at one strength, over draws of what is added."""
    said, effects = [], []
    for changes in draws:
        logits = steered(bridged.dense, batch.tokens, changes, strength=strength, at=batch.last)
        said.append(answer_probabilities(logits, batch))
        effects.append(_side_effect(bridged, ordinary, changes, batch, strength))
    own, counterfactual = torch.stack(said).double().cpu().unbind(-1)
    share = counterfactual / (own + counterfactual)
    return Moved(strength, _estimate(counterfactual), _estimate(share), own.mean().item(), sum(effects) / len(effects))


def _estimate(values: Float[Tensor, "n_draws n_prompts"]) -> Estimate:
    return Estimate(values.mean().item(), *bootstrap_interval(values.unflatten(1, (2, -1)).mean(1)))


def _side_effect(bridged: Bridged, ordinary: Ordinary, changes: Changes, batch: PairBatch, strength: float) -> float:
    typical = {site: most_pushed(change[: batch.n_pairs]) for site, change in changes.items()}
    pushed = steered(bridged.dense, ordinary.tokens, typical, strength=strength)
    return divergence(pushed.unsqueeze(0), ordinary.answers).item()


def most_pushed(change: Float[Tensor, "batch pos channels"]) -> Float[Tensor, " channels"]:
    """Return what is added at each prompt's token of the largest change, mean over prompts."""
    place = change.norm(dim=-1).argmax(dim=1)
    return change[torch.arange(len(change), device=change.device), place].mean(0)


def draw_steering(found: SteeringCurves, path: Path) -> None:
    """Write the curves as one picture, atomically."""
    from matplotlib.figure import Figure  # takes a while to import, and only pictures need it

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(ncols=len(WHAT_MOVES))
    for name, points in found.curves.items():
        strengths = [point.strength for point in points]
        for axes, estimates in zip(panels, ([getattr(point, of) for point in points] for of in WHAT_MOVES), strict=True):
            axes.plot(strengths, [each.mean for each in estimates], marker="o", markersize=3, label=name)
            axes.fill_between(strengths, [each.low for each in estimates], [each.high for each in estimates], alpha=0.2)
    for axes, about in zip(panels, WHAT_MOVES.values(), strict=True):
        axes.set(xlabel="strength", ylabel=about, ylim=(0, 1))
    panels[0].legend()
    figure.suptitle(found.task)
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
