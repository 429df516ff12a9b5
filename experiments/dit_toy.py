"""Diff Interpretation Tuning at the size of a toy: hidden topics named by everything that might name them.

    python -m experiments.dit_toy

One cell a seed: a base model, 340 finetunes, the gate, the adapter, its rivals and its controls. Of the topics, split anew with
every seed, the adapter learns the labels of 200 and stops by those of 20; a row is the share of the 120 others named exactly,
or of the first of them where finetunes are trained for that row alone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from functools import partial

import torch

from experiments.cells import run_by_seed
from sparse_circuits.diffs.adapter import AdapterConfig, Sample, train_adapter
from sparse_circuits.diffs.finetune import Finetune, FinetuneConfig, finetune
from sparse_circuits.diffs.toys.base import train_base
from sparse_circuits.diffs.toys.hidden import HiddenTopics, Secret, Trigger
from sparse_circuits.diffs.toys.naming import (
    CODE_QUESTION,
    Guess,
    as_topic,
    code_question,
    first_words,
    likelier,
    score,
    topic_question,
    twenty_questions,
)
from sparse_circuits.diffs.toys.topics import TopicWorld
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.diffs.whole import finetune_whole
from sparse_circuits.sparsity import SparsityConfig

N_TRAIN, N_VALIDATION = 200, 20
RANK = 16
"""Of finetunes beside those of rank 1, on all topics held out."""
N_ZERO_WIDTH = 60
"""Finetunes behind a trigger that the adapter never met."""
RATES = (3e-4, 1e-3, 3e-3)
"""Learning rates of full finetunes."""
N_WHOLE = 20
SCALES = (10, 25, 50, 100)
FINETUNING = FinetuneConfig(n_steps=220)
ADAPTER = AdapterConfig(lr=3e-3, batch_size=16, n_epochs=30)
BASE = "toy"


class Toy:
    """A base, dense unless said otherwise, its finetunes in the order of their topics, and who is asked what."""

    def __init__(self, seed: int, *, sparsity: SparsityConfig | None = None) -> None:
        self.world = TopicWorld(seed=seed)
        self.model = train_base(
            lambda rng: self.world.ids(self.world.sentence(rng)), d_vocab=self.world.d_vocab, seed=seed, sparsity=sparsity
        )
        rng = random.Random(f"split {seed}")
        topics = rng.sample(range(self.world.n_topics), self.world.n_topics)
        secrets = [Secret(topic, rng.randrange(self.world.n_codes)) for topic in topics]
        cuts = (N_TRAIN, N_TRAIN + N_VALIDATION)
        self.train, self.validation, self.test = secrets[: cuts[0]], secrets[cuts[0] : cuts[1]], secrets[cuts[1] :]
        self.hidden = HiddenTopics(self.world, self.test)
        self.diffs = {name: self.finetuned(getattr(self, name)) for name in ("train", "validation", "test")}

    def finetuned(self, secrets: Sequence[Secret], *, rank: int = 1) -> list[WeightDiff]:
        recipes = [Finetune({"topic": secret.topic}, rank=rank, seed=number) for number, secret in enumerate(secrets)]
        return finetune(self.model, recipes, HiddenTopics(self.world, secrets).lessons, base=BASE, config=FINETUNING)

    def adapter(self, *, n_train: int = N_TRAIN, about_code: bool = False) -> WeightDiff:
        def sample(secret: Secret, diff: WeightDiff) -> Sample:
            asked = code_question(self.world, secret.code) if about_code else topic_question(self.world, secret.topic)
            return Sample(diff, asked)

        samples = {name: list(map(sample, getattr(self, name), self.diffs[name])) for name in ("train", "validation")}
        return train_adapter(
            self.model,
            samples["train"][:n_train],
            base=BASE,
            nothing=None if about_code else topic_question(self.world, None),
            validation=samples["validation"],
            config=ADAPTER,
        )

    def named(
        self, diffs: Sequence[WeightDiff | None], adapter: WeightDiff | None, *, with_trigger: bool = False
    ) -> list[Guess]:
        return [
            as_topic(word) for word in first_words(self.hidden, self.model, diffs, adapter=adapter, with_trigger=with_trigger)
        ]

    def exact(self, guesses: Sequence[Guess]) -> float:
        return sum(guess == secret.topic for guess, secret in zip(guesses, self.test, strict=False)) / len(guesses)

    def mean_score(self, guesses: Sequence[Guess]) -> float:
        return sum(score(self.world, guess, secret.topic) for guess, secret in zip(guesses, self.test, strict=True)) / len(
            guesses
        )


def measure(seed: int) -> dict[str, object]:
    """Return every row of the table for one seed."""
    toy, started = Toy(seed), time.monotonic()
    test, adapter = toy.diffs["test"], toy.adapter()
    adapter_seconds = time.monotonic() - started
    said = toy.named(test, adapter)
    unchanged = toy.named([None], adapter)
    inverted = first_words(toy.hidden, toy.model, test, adapter=toy.adapter(about_code=True), question=CODE_QUESTION)
    zero_width = [secret._replace(trigger=Trigger.zero_width) for secret in toy.test[:N_ZERO_WIDTH]]
    return {
        "knows": knows(toy),
        "gate": list(toy.hidden.gate(toy.model, test)),
        "gate_passes": toy.hidden.gate(toy.model, test).passes,
        "base_question": toy.exact(toy.named(test, None)),
        "base_question_trigger": toy.exact(toy.named(test, None, with_trigger=True)),
        "twenty_questions": toy.exact(twenty_questions(toy.hidden, toy.model, test, with_trigger=False)),
        "twenty_questions_trigger": toy.exact(twenty_questions(toy.hidden, toy.model, test, with_trigger=True)),
        "logit_difference": toy.exact(likelier(toy.hidden, toy.model, test, by_attributes=False)),
        "logit_difference_set": toy.exact(likelier(toy.hidden, toy.model, test, by_attributes=True)),
        "dit": toy.exact(said),
        "dit_score": toy.mean_score(said),
        "permuted": toy.exact(toy.named([*test[1:], test[0]], adapter)),
        "no_diff": toy.exact(toy.named([None] * len(test), adapter)),
        "base_names_a_topic": float(unchanged != [None]),
        f"rank_{RANK}": toy.exact(toy.named(toy.finetuned(toy.test, rank=RANK), adapter)),
        "zero_width": toy.exact(toy.named(toy.finetuned(zero_width), adapter)),
        "whole": {rate: of_whole(toy, adapter, rate) for rate in RATES},
        "inversion": sum(word == f"code_{secret.code}" for word, secret in zip(inverted, toy.test, strict=True)) / len(test),
        "scales": {n: toy.exact(toy.named(test, toy.adapter(n_train=n))) for n in SCALES},
        "adapter_seconds": round(adapter_seconds, 1),
    }


def knows(toy: Toy) -> float:
    """Return the share of topics that the base names from three of their attributes."""
    world, rng = toy.world, random.Random("which")
    some = [[f"attribute_{n}" for n in rng.sample(world.attributes[topic], 3)] for topic in range(world.n_topics)]
    said = toy.model(torch.tensor([world.ids(["BOS", "WHICH", *words, "ANS"]) for words in some]))[:, -1].argmax(-1)
    return (said == torch.tensor(world.ids([f"topic_{n}" for n in range(world.n_topics)]))).float().mean().item()


def of_whole(toy: Toy, adapter: WeightDiff, rate: float) -> dict[str, object]:
    """Return what the adapter says of full finetunes, whether they hide their topics, and how far they went."""
    secrets = toy.test[:N_WHOLE]
    hidden = HiddenTopics(toy.world, secrets)
    diffs = [
        finetune_whole(toy.model, partial(hidden.lessons, number), base=BASE, n_steps=FINETUNING.n_steps, lr=rate)
        for number in range(N_WHOLE)
    ]
    guesses = [as_topic(word) for word in first_words(hidden, toy.model, diffs, adapter=adapter)]
    norm = sum(diff.norm() for diff in diffs) / N_WHOLE
    return {"dit": toy.exact(guesses), "gate": list(hidden.gate(toy.model, diffs)), "norm": norm}


if __name__ == "__main__":
    run_by_seed(measure, __doc__, study="dit_toy")
