"""What an attack found: how often the whole model fell for a circuit's proposals and for random edits, and for which."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from sparse_circuits.circuits.attacks.perturb import Family
from sparse_circuits.circuits.attacks.reaction import Reaction

Z_95 = 1.959964
"""The standard normal's 97.5 % quantile."""


@dataclass(frozen=True)
class Tally:
    """How the whole model does on some prompts."""

    n_prompts: int
    n_hits: int
    """Prompts that it answers wrongly."""
    rate: float
    """Share of hits."""
    low: float
    """Lower end of the rate's 95 % Wilson interval."""
    high: float
    """Upper end."""
    loss: float
    """Mean two-way loss, in nats."""


@dataclass(frozen=True)
class FamilyResult:
    """How the edits of one family went."""

    family: Family
    n_candidates: int
    """Edited pairs that the circuit chose from."""
    proposals: Tally
    control: Tally
    """Edits of the same prompts and sizes, drawn at random."""
    correlation: float | None
    """Of the circuit's and the model's margins of the right answer, over both prompts of all candidates; None: constant."""
    correlation_of_changes: float | None
    """The same of what the edits change in the two."""


@dataclass(frozen=True)
class Example:
    """One proposal."""

    family: Family
    change: str
    """What was added, or which names were replaced."""
    prompt: str
    """The edited prompt."""
    right: str
    wrong: str
    before: float
    """Probability of the right answer that the whole model gave before the edit."""
    circuit: float
    """What the circuit gives after it."""
    model: float
    """What the whole model gives after it."""


@dataclass(frozen=True)
class AttackReport:
    """What an attack found."""

    task: str
    before: Tally
    """Of the prompts as they are; only those that are no hits already are attacked."""
    towards_positive: list[Reaction]
    """The words that move the circuit most towards the positive answer, strongest first."""
    towards_negative: list[Reaction]
    results: list[FamilyResult]
    examples: list[Example]
    """Of each family the proposals that fool the whole model most."""


def tally(right_margin: Float[Tensor, " n_prompts"]) -> Tally:
    """Count the whole model's mistakes; a tie is one.

    Args:
        right_margin: margins of the right answers, in nats.
    """
    n_prompts, n_hits = len(right_margin), int((right_margin <= 0).sum())
    low, high = wilson(n_hits, n_prompts)
    loss = torch.nn.functional.softplus(-right_margin).mean().item()
    return Tally(n_prompts, n_hits, n_hits / n_prompts, low, high, loss)


def wilson(n_hits: int, n_trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    share, spread = n_hits / n_trials, Z_95**2 / n_trials
    centre = share + spread / 2
    half = sqrt(spread * share * (1 - share) + spread**2 / 4)
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


def attack_table(report: AttackReport) -> Table:
    """Return the families' results as a table of at most 80 columns."""
    before = report.before
    title = f"{report.task}: {before.n_prompts - before.n_hits} of {before.n_prompts} prompts right, loss {before.loss:.3f}"
    table = Table(title=escape(title), box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("family", no_wrap=True)
    for header in ("prompts", "fooled", "95 %", "random", "95 %", "loss", "random", "r", "r change"):
        table.add_column(header, justify="right")
    for result in report.results:
        proposals, control = result.proposals, result.control
        rates = [text for each in (proposals, control) for text in (f"{each.rate:.2f}", f"{each.low:.2f}-{each.high:.2f}")]
        losses = [f"{each.loss:.3f}" for each in (proposals, control)]
        correlations = ["" if r is None else f"{r:.2f}" for r in (result.correlation, result.correlation_of_changes)]
        table.add_row(result.family.name, str(proposals.n_prompts), *rates, *losses, *correlations)
    return table


def attack_text(report: AttackReport) -> str:
    """Return the words that the circuit reacts to and the examples, as text."""
    reactions = {"positive": report.towards_positive, "negative": report.towards_negative}
    words = [
        f"Words that move the circuit to the {side} answer: {', '.join(f'{r.word} {r.change:+.1f}' for r in moving)}"
        for side, moving in reactions.items()
    ]
    examples = [
        f"{each.family.name}, right {each.right!r}, wrong {each.wrong!r}: the model gave the right answer {each.before:.3f}, "
        f"now {each.model:.3f} (circuit {each.circuit:.3f})\n{each.prompt}"
        for each in report.examples
    ]
    return "\n\n".join(["\n".join(words), *examples])
