"""Diff circuits: the fewest of a finetune's changed weights that carry a behaviour.

Every changed weight is a unit that is on (as in the finetune) or off (as in the base). What finds circuits finds these, too:
learned masks with parts of the rest left on at random, a search for the smallest size that reaches the target on other
examples, then, where few are left, one unit after the other tried without. The card holds them against what would make such
a set worthless: as many changed weights drawn at random, those that changed most, and the finetune without the set.

Of a sparse base this is a list that can be read. Source: ours; the method is Gao et al. 2025's, appendix A.5.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sparse_circuits.circuits.discovery.discover import MaskStep, initial_mask
from sparse_circuits.circuits.discovery.discretise import smallest_size
from sparse_circuits.circuits.discovery.masks import MaskConfig
from sparse_circuits.circuits.discovery.objective import choose_removed, seen_mask
from sparse_circuits.diffs.entries import Entries
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.errors import UserError
from sparse_circuits.kernels.mean_ablate import surrogate_step
from sparse_circuits.model import Transformer
from sparse_circuits.training.loop import fit


@dataclass(frozen=True)
class DiffCircuitConfig:
    masks: MaskConfig = field(default_factory=lambda: MaskConfig(n_steps=300, k_coef=1e-4))
    """How masks are learned; objective, steps, costs and rates are those of circuits, norms do not matter here."""
    n_lessons: int = 32
    """Examples of one step."""
    recovered: float = 0.9
    """Share of the behaviour that the set has to carry: of the fall of the loss from base to finetune."""
    n_random: int = 50
    """Random sets of the same size, on the card."""
    n_clean_up: int = 400
    """Largest set of which every unit is tried without; 0: none."""
    seed: int = 0
    """Of masks, examples and random sets."""

    def __post_init__(self) -> None:
        if self.n_clean_up < 0:
            raise UserError(f"n_clean_up is {self.n_clean_up}: give 0 or more.")
        if not 0 < self.recovered < 1:
            raise UserError(f"recovered is {self.recovered}: give a share between 0 and 1.")
        for name in ("n_lessons", "n_random"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}: give at least 1.")


@dataclass(frozen=True)
class DiffCircuit:
    """The changed weights that carry a behaviour, and what holds them to it; losses in nats on held-out examples."""

    kept: WeightDiff
    """The finetune's change at these weights alone."""
    n_kept: int
    n_changed: int
    """Of the whole finetune."""
    base: float
    """Loss of the model before."""
    finetuned: float
    """Loss of the model after."""
    sufficient: float
    """Loss of the base with this set."""
    necessary: float
    """Loss of the finetune without it."""
    random: float
    """Lowest loss of the base with as many changed weights drawn at random."""
    largest: float
    """Loss of the base with as many, those that changed most."""

    @property
    def recovers(self) -> float:
        """Return the share of the behaviour that the set carries."""
        return (self.base - self.sufficient) / (self.base - self.finetuned)

    @property
    def needed(self) -> float:
        """Return the share of the behaviour that is gone without it."""
        return (self.necessary - self.finetuned) / (self.base - self.finetuned)

    def losses(self) -> dict[str, float]:
        """Return the card's losses by what they are of, for a reader."""
        return {
            "the base": self.base,
            "the finetune": self.finetuned,
            "the base with these weights": self.sufficient,
            "the finetune without them": self.necessary,
            "the base with as many at random, the best": self.random,
            "the base with as many that changed most": self.largest,
        }


def find_diff_circuit(
    model: Transformer,
    diff: WeightDiff,
    *,
    train: Sequence[Lesson],
    validation: Sequence[Lesson],
    held_out: Sequence[Lesson],
    config: DiffCircuitConfig | None = None,
) -> DiffCircuit:
    """Return the fewest changed weights that carry a behaviour, with their card.

    Args:
        model: the base, frozen.
        diff: the finetune.
        train: examples of the behaviour, to learn masks on.
        validation: others, to choose the size and clean up on.
        held_out: others, for the card.
        config: how.

    Raises:
        UserError: the finetune changes nothing, or its loss on the behaviour is not below the base's.
    """
    config, entries = config or DiffCircuitConfig(), Entries(model, diff)
    if entries.n == 0:
        raise UserError("The finetune changes no weight: give one that does.")
    everything = torch.ones(entries.n, device=model.embed.weight.device)
    with torch.no_grad():
        before, after = (entries.loss(share * everything, validation).item() for share in (0, 1))
    if after >= before:
        raise UserError(f"The finetune's loss is {after:.3f} and the base's {before:.3f}: it has not learned this behaviour.")
    target = before - config.recovered * (before - after)
    mask = _learn(entries, train, config)
    kept = _smallest(entries, mask, validation, target)
    if 0 < int(kept.sum()) <= config.n_clean_up:
        kept = _cleaned_up(entries, kept, mask, validation, target)
    return _card(entries, kept, held_out, config)


def _learn(entries: Entries, train: Sequence[Lesson], config: DiffCircuitConfig) -> Float[Tensor, " entry"]:
    masks, generator = config.masks, torch.Generator().manual_seed(config.seed)

    def loss(mask: Tensor, batch: Sequence[Lesson]) -> Tensor:
        shares = partial(entries.loss, lessons=batch)
        removed = choose_removed(masks.objective, mask.detach() > 0, shares, generator=generator)
        return shares(surrogate_step(seen_mask(mask, removed), temperature=masks.heaviside_temp))

    device = entries.model.embed.weight.device
    tie = torch.arange(entries.n, device=device)
    step = MaskStep(initial_mask(entries.n, masks, seed=config.seed).to(device), loss, masks, masks.n_steps, tie)
    fit(step, _Draws(train, config), n_steps=masks.n_steps)
    return step.mask.detach()


class _Draws:
    """Examples, drawn anew for every step."""

    def __init__(self, lessons: Sequence[Lesson], config: DiffCircuitConfig) -> None:
        self.lessons, self.n = list(lessons), min(config.n_lessons, len(lessons))
        self.random = random.Random(config.seed)

    def next_batch(self) -> list[Lesson]:
        return self.random.sample(self.lessons, self.n)


@torch.no_grad()
def _smallest(
    entries: Entries, mask: Float[Tensor, " entry"], lessons: Sequence[Lesson], target: float
) -> Bool[Tensor, " entry"]:
    """Return the fewest top-ranked weights that reach the target; all of them do."""
    order = mask.argsort(descending=True, stable=True)

    def top(k: int) -> Bool[Tensor, " entry"]:
        return torch.zeros_like(mask, dtype=torch.bool).index_fill(0, order[:k], True)

    size = smallest_size(
        lambda k: entries.loss(top(k).float(), lessons).item() <= target,
        start=max(1, int((mask > 0).sum())),
        largest=entries.n,
    )
    return top(size)


@torch.no_grad()
def _cleaned_up(
    entries: Entries,
    kept: Bool[Tensor, " entry"],
    mask: Float[Tensor, " entry"],
    lessons: Sequence[Lesson],
    target: float,
) -> Bool[Tensor, " entry"]:
    """Take out one weight after the other, the least first, until none can go with the loss still under the target."""
    kept = kept.clone()
    gone = True
    while gone:
        gone = False
        inside = kept.nonzero().squeeze(1)
        for place in inside[mask[inside].argsort(stable=True)].tolist():
            kept[place] = False
            if entries.loss(kept.float(), lessons).item() <= target:
                gone = True
            else:
                kept[place] = True
    return kept


@torch.no_grad()
def _card(entries: Entries, kept: Bool[Tensor, " entry"], lessons: Sequence[Lesson], config: DiffCircuitConfig) -> DiffCircuit:
    n_kept, generator = int(kept.sum()), torch.Generator().manual_seed(config.seed)
    everything = torch.ones_like(kept, dtype=torch.float32)

    def loss(shares: Tensor) -> float:
        return entries.loss(shares, lessons).item()

    def some(order: Tensor) -> Tensor:
        return torch.zeros_like(everything).index_fill(0, order[:n_kept], 1.0)

    drawn = [torch.randperm(entries.n, generator=generator).to(kept.device) for _ in range(config.n_random)]
    return DiffCircuit(
        kept=entries.only(kept),
        n_kept=n_kept,
        n_changed=entries.n,
        base=loss(0 * everything),
        finetuned=loss(everything),
        sufficient=loss(kept.float()),
        necessary=loss((~kept).float()),
        random=min(loss(some(order)) for order in drawn),
        largest=loss(some(entries.sizes_of_change().argsort(descending=True, stable=True))),
    )
