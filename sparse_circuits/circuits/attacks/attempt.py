"""Edited pairs as ids, and what is made of them: the step that every attack repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.circuits.attacks.perturb import Edit
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.tasks import Pair, PairBatch, right_margins
from sparse_circuits.tasks.encode import Drop, EncodedPair, collate, encode_pair

PAIRS_AT_ONCE = 512

RightMargins = Float[Tensor, "2 n_pairs"]
"""Log odds of the right answers in nats: of the positive prompts, then of the negative ones."""


class Target(NamedTuple):
    """A pair under attack."""

    number: int
    pair: Pair
    encoded: EncodedPair


class Attempt(NamedTuple):
    """An edit of a target."""

    target: Target
    edit: Edit
    encoded: EncodedPair


class Margins(NamedTuple):
    """What the circuit and its whole model make of the same pairs."""

    circuit: RightMargins
    model: RightMargins


def make_attempt(circuit: Circuit, target: Target, edit: Edit) -> Attempt | None:
    """Encode an edit; None where the pair is no fair question any more, too long, or asks for other tokens."""
    encoded = encode_pair(edit.pair, circuit.tokenizer)
    if isinstance(encoded, Drop) or len(encoded.positive) > circuit.model.config.n_ctx:
        return None
    return Attempt(target, edit, encoded) if answers_of(encoded) == answers_of(target.encoded) else None


def answers_of(pair: EncodedPair) -> tuple[int, int]:
    """Return the tokens of the two answers."""
    return pair.positive_answer, pair.negative_answer


def ask_both(circuit: Circuit, tried: Sequence[Target | Attempt]) -> Margins:
    """Run pairs through the circuit and through its whole model."""
    return Margins(ask_circuit(circuit, tried), ask_model(circuit, tried))


def ask_circuit(circuit: Circuit, tried: Sequence[Target | Attempt]) -> RightMargins:
    """Run pairs through the circuit, calibrated."""
    return _ask(circuit.margins, circuit, tried)


def ask_model(circuit: Circuit, tried: Sequence[Target | Attempt]) -> RightMargins:
    """Run pairs through the circuit's model, unpruned."""
    return _ask(partial(answer_margins, circuit.model), circuit, tried)


@torch.no_grad()
def _ask(run: Callable[[PairBatch], Tensor], circuit: Circuit, tried: Sequence[Target | Attempt]) -> RightMargins:
    margins = [torch.empty(2, 0)]
    for start in range(0, len(tried), PAIRS_AT_ONCE):
        encoded = [each.encoded for each in tried[start : start + PAIRS_AT_ONCE]]
        batch = collate(encoded, circuit.tokenizer, scoring=circuit.task.scoring).to(circuit.model.embed.weight.device)
        margins.append(right_margins(run(batch)).view(2, -1).cpu())
    return torch.cat(margins, dim=1)
