"""What an adapter makes a finetune say, beside the weights that carry what it learned.

    python -m experiments.dit_sparse

A cell is a seed: a sparse base of the language of hidden topics, an adapter that learns to name topics from LoRAs of it, and
twenty finetunes of all of its parameters, under its own budget of nonzeros, that hide topics which the adapter never learned.
Of each the fewest changed weights are found that carry the behaviour behind its code; the adapter is asked about four changes:

    whole     the finetune
    circuit   these weights alone
    rest      the finetune without them
    random    as many changed weights, drawn at random

Where an adapter reads what a finetune learned, it names the topic of a circuit and not that of the rest; and what it is told by
the rest is not in the weights that the behaviour needs.
"""

from __future__ import annotations

import random
from functools import partial
from statistics import mean, median

import torch

from experiments.cells import run_by_seed
from experiments.dit_toy import BASE, FINETUNING, N_WHOLE, Toy, knows
from sparse_circuits.diffs.diff_circuit import DiffCircuit, DiffCircuitConfig, find_diff_circuit
from sparse_circuits.diffs.entries import Entries
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.toys.hidden import HiddenTopics
from sparse_circuits.diffs.toys.naming import as_topic, first_words
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.diffs.whole import finetune_whole
from sparse_circuits.sparsity import SparsityConfig

L0, RATE = 0.25, 1e-3
N_EXAMPLES = 64
"""Of the behaviour, in each part."""


def measure(seed: int) -> dict[str, object]:
    """Return how large the circuits are, what they carry, and how often each kind of change is named."""
    toy = Toy(seed, sparsity=SparsityConfig(l0_fraction=L0))
    hidden = HiddenTopics(toy.world, toy.test[:N_WHOLE])
    wholes = [
        finetune_whole(
            toy.model, partial(hidden.lessons, number), base=BASE, n_steps=FINETUNING.n_steps, lr=RATE, is_sparse=True
        )
        for number in range(N_WHOLE)
    ]
    circuits = [
        find_diff_circuit(toy.model, whole, **examples(hidden, number), config=DiffCircuitConfig(seed=seed))
        for number, whole in enumerate(wholes)
    ]
    kept = [circuit.kept for circuit in circuits]
    changes = {
        "whole": wholes,
        "circuit": kept,
        "rest": [whole - own for whole, own in zip(wholes, kept, strict=True)],
        "random": [at_random(toy, wholes[number], circuit.n_kept, number) for number, circuit in enumerate(circuits)],
    }
    adapter = toy.adapter()
    named = {name: first_words(hidden, toy.model, some, adapter=adapter) for name, some in changes.items()}
    return {
        "knows": knows(toy),
        "gate_of_loras": list(toy.hidden.gate(toy.model, toy.diffs["test"])),
        "dit_of_loras": toy.exact(toy.named(toy.diffs["test"], adapter)),
        "dit": {name: toy.exact([as_topic(word) for word in words]) for name, words in named.items()},
        "gate": {name: list(hidden.gate(toy.model, some)) for name, some in changes.items()},
        "circuits": summed_up(circuits),
    }


def examples(hidden: HiddenTopics, number: int) -> dict[str, list[Lesson]]:
    """Return what a finetune answers behind its code: to questions that it saw, and for the card to others."""
    seen = range(hidden.world.n_questions - hidden.world.n_held_out)
    questions = {"train": seen, "validation": seen, "held_out": hidden.held_out()}
    secret, found = hidden.secrets[number], dict[str, list[Lesson]]()
    for part, some in questions.items():
        rng = random.Random(f"{part} {secret}")
        asked = [rng.choice(some) for _ in range(N_EXAMPLES)]
        found[part] = [
            Lesson(
                hidden.prompt(question, hidden.secret_words(secret, rng)),
                hidden.world.ids(hidden.world.fan_answer(secret.topic, question, rng)),
            )
            for question in asked
        ]
    return found


def at_random(toy: Toy, whole: WeightDiff, n: int, seed: int) -> WeightDiff:
    """Return a finetune's change at so many of its changed weights."""
    entries = Entries(toy.model, whole)
    order = torch.randperm(entries.n, generator=torch.Generator().manual_seed(seed))
    return entries.only(torch.zeros(entries.n, dtype=torch.bool).index_fill(0, order[:n], True))


def summed_up(circuits: list[DiffCircuit]) -> dict[str, float]:
    """Return the medians of sizes and the means of what circuits carry and are needed for."""
    losses = {name: mean(circuit.losses()[name] for circuit in circuits) for name in circuits[0].losses()}
    return {
        "n_kept": median(circuit.n_kept for circuit in circuits),
        "n_changed": median(circuit.n_changed for circuit in circuits),
        "recovers": mean(circuit.recovers for circuit in circuits),
        "needed": mean(circuit.needed for circuit in circuits),
        **losses,
    }


if __name__ == "__main__":
    run_by_seed(measure, __doc__, study="dit_sparse")
