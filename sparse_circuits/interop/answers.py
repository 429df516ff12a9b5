"""Which token ids a circuit's task is answered by, as far as its file can tell."""

from __future__ import annotations

from typing import NamedTuple

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.spec import example_pairs, parting_tokens
from sparse_circuits.tasks import Scoring
from sparse_circuits.tasks.encode import NO_TOKEN, EncodedPair, collate

N_PAIRS = 64
"""Held-out pairs drawn to see whether all have the same answers."""


class Question(NamedTuple):
    """How the prompts of a task are asked."""

    positive: list[int]
    """Ids that count as the positive answer; empty where prompts differ in it, or the file cannot tell."""
    negative: list[int]
    """Ids that count as the negative answer; empty likewise, and for `complement`, where it is every other token."""
    example: EncodedPair | None
    """The shortest of some held-out pairs; None for a task that is not among the project's own."""


def question(circuit: Circuit) -> Question:
    """Return the answers that all prompts of the circuit's task share, and one of its pairs."""
    own = _own_pairs(circuit)
    sides = sides_of(circuit, own or _pair_of_texts(circuit))
    is_shared = sides and all(each == sides[0] for each in sides) and _are_scored(circuit, sides[0])
    positive, negative = sides[0] if is_shared else ([], [])
    return Question(positive, negative, min(own, key=lambda pair: len(pair.positive), default=None))


def sides_of(circuit: Circuit, pairs: list[EncodedPair]) -> list[list[list[int]]]:
    """Return for each pair the ids of its positive and of its negative answer; none of the latter for `complement`."""
    if not pairs:
        return []
    answers = collate(pairs, circuit.tokenizer, scoring=circuit.task.scoring).answers
    if circuit.task.scoring is Scoring.complement:
        answers[:, 1] = NO_TOKEN
    return [[[token for token in side if token != NO_TOKEN] for side in sides] for sides in answers.tolist()]


def _are_scored(circuit: Circuit, sides: list[list[int]]) -> bool:
    """Whether these are just the answers that the circuit was found with, as far as its file lists them."""
    scored = circuit.task.answer_ids
    return scored is None or {*sides[0], *sides[1]} == {*scored}


def _own_pairs(circuit: Circuit) -> list[EncodedPair]:
    return example_pairs(circuit.task, circuit.tokenizer, n_pairs=N_PAIRS, max_tokens=circuit.model.config.n_ctx)


def _pair_of_texts(circuit: Circuit) -> list[EncodedPair]:
    """Return the answers' first tokens that differ, as a pair behind nothing but the end of a text."""
    parting = circuit.task.answers and parting_tokens(circuit.task.answers, circuit.tokenizer)
    prompt = (circuit.tokenizer.end_of_text,)
    return [EncodedPair(prompt, prompt, *parting)] if parting else []
