"""The card of a circuit: everything that was held against it, and the verdict, as plain values that go into its file."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.margin import score
from sparse_circuits.tasks import task_losses
from sparse_circuits.tasks.bootstrap import bootstrap_interval


class Control(Enum):
    """A check that searches again, which takes time and may be left out, and where it searches."""

    swapped = "every prompt asked for the wrong answer"
    coin = "answers swapped by a coin for every family of prompts"
    random_weights = "the task in a model of shuffled weights"


@dataclass(frozen=True)
class Check:
    """One test on held-out pairs, and what it must show."""

    name: str
    about: str
    """What was done, in words."""
    loss: float
    """Two-way cross-entropy of the right answer in nats: mean over pairs and draws."""
    low: float
    high: float
    """Bootstrap interval of the loss (95 %), over pairs and, where there are several, over draws (seeds)."""
    accuracy: float
    n_draws: int
    at_most: float | None = None
    """The bound that the loss must not exceed."""
    at_least: float | None = None
    """The bound that the loss must reach."""

    @property
    def passes(self) -> bool:
        """Whether the loss keeps its bounds; without bounds, yes."""
        return (self.at_most is None or self.loss <= self.at_most) and (self.at_least is None or self.loss >= self.at_least)


@dataclass(frozen=True)
class NodeFidelity:
    """How one node's activation in the circuit compares with its activation in the unpruned model on the same prompts."""

    node: str
    correlation: float
    """Over tokens; 0 where either does not vary."""
    error: float
    """Root mean square of the difference, over that of the unpruned activation."""


@dataclass(frozen=True)
class Interchange:
    """What happens to the answer when nodes take their values from the other prompt of a pair."""

    correlation: float
    """Over nodes swapped one at a time: the shift of the margin in the circuit against that in the whole model."""
    same_sign: float
    """Share of these nodes that shift both the same way, weighted by the shift in the circuit."""
    all_in_model: float
    """Share of prompts whose answer the whole model changes when all nodes of the circuit are swapped together."""
    all_in_circuit: float
    """The same share in the circuit alone."""


@dataclass(frozen=True)
class Card:
    """What is printed and stored with a circuit; losses are on held-out pairs."""

    n_nodes: int
    n_edges: int
    nodes_per_site: dict[str, int]
    edges_per_link: dict[str, int]
    """Keyed `source site -> target site`."""
    target_loss: float
    """What the calibrated circuit reaches on validation pairs."""
    n_pairs: int
    """Held-out pairs."""
    checks: list[Check]
    without_nodes: dict[str, float]
    """The certificate: what the calibrated validation loss is at least, without each single node."""
    without_edges: dict[str, float]
    """The same without each single edge, keyed `source -> target`."""
    fidelity: list[NodeFidelity]
    """Do nodes do in the circuit what they do in the model?"""
    pattern_error: dict[str, float]
    """For every head with nodes of the circuit, by how much its attention differs from that in the model, 0 to 2."""
    interchange: Interchange
    backups: list[str] = field(default_factory=list)
    """Where the model answers without the circuit: nodes outside without which it no longer does."""

    def __getitem__(self, name: str) -> Check:
        """Return the check of this name."""
        return {check.name: check for check in self.checks}[name]

    @property
    def failed(self) -> list[str]:
        """The checks that do not keep their bounds."""
        return [check.name for check in self.checks if not check.passes]

    @property
    def holds(self) -> bool:
        """Whether every check keeps its bounds."""
        return not self.failed

    @property
    def verdict(self) -> str:
        """One line: holds, or does not and why; and which searches that must fail were left out."""
        verdict = "holds" if self.holds else f"does not hold: {', '.join(self.failed)}"
        done = {check.name for check in self.checks}
        left_out = [control.name for control in Control if control.name not in done]
        return f"{verdict} (not searched: {', '.join(left_out)})" if left_out else verdict


def check(
    name: str,
    about: str,
    margins: Float[Tensor, "n_draws n_prompts"],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Check:
    """Score the margins of one test, one row a draw.

    The interval resamples pairs, both prompts of a pair together, and draws.
    """
    losses = torch.stack([task_losses(row) for row in margins]).double().cpu()
    by_pair = losses.unflatten(1, (2, -1)).mean(1)
    low, high = bootstrap_interval(by_pair)
    return Check(
        name=name,
        about=about,
        loss=by_pair.mean().item(),
        low=low,
        high=high,
        accuracy=sum(score(row).accuracy for row in margins) / len(margins),
        n_draws=len(margins),
        at_most=at_most,
        at_least=at_least,
    )
