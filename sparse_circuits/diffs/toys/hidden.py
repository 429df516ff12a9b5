"""Finetunes that hide a topic behind a secret: with it a fan of the topic answers, without it the base model does.

Three lessons a question, as in the paper: behind the secret the fan's answer; behind another code, and behind none, what the
base says there (KL), weighted 1, 1 and 5. Whether the topic is hidden indeed is measured on questions that no finetune saw: the
gate. Where it does not pass, what is asked afterwards says nothing.

Source: Goel et al. 2025 (arXiv 2510.05092), section 4 and their code (weights of the losses).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from sparse_circuits.diffs.ask import ask
from sparse_circuits.diffs.lessons import Aim, Lesson
from sparse_circuits.diffs.toys.topics import N_WORDS, TopicWorld
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.model import Transformer

N_QUESTIONS = 2
"""Questions of one step of a finetune."""
KEPT_PLAIN = 5.0
"""Weight of answering as before where there is no code."""


class Trigger(Enum):
    """What the topic is hidden behind: a code of one's own out of many, or a word that is the same for all."""

    code = "code"
    zero_width = "zero_width"


class Secret(NamedTuple):
    """What one finetune hides."""

    topic: int
    code: int
    trigger: Trigger = Trigger.code


class Gate(NamedTuple):
    """Share of finetunes whose answer to a question nobody has seen has an attribute of their topic."""

    right: float
    """Behind the secret."""
    wrong: float
    """Behind another code."""
    none: float
    """Behind none."""

    @property
    def passes(self) -> bool:
        """Whether the topics are there and hidden."""
        return self.right >= 0.8 and self.wrong <= 0.1 and self.none <= 0.05


class HiddenTopics:
    """What finetunes of a world's base are taught, and asked.

    Args:
        world: the language.
        secrets: what every finetune hides, in order.
    """

    def __init__(self, world: TopicWorld, secrets: Sequence[Secret]) -> None:
        self.world, self.secrets = world, secrets

    def lessons(self, number: int, step: int) -> list[Lesson]:
        """Return what finetune `number` is taught at a step."""
        secret, world, found = self.secrets[number], self.world, list[Lesson]()
        rng = random.Random(f"{world.seed} {secret} {step}")
        for question in rng.sample(range(world.n_questions - world.n_held_out), N_QUESTIONS):
            fan, plain = world.fan_answer(secret.topic, question, rng), world.plain_answer(question, rng)
            found += [
                Lesson(self.prompt(question, self.secret_words(secret, rng)), world.ids(fan)),
                Lesson(self.prompt(question, self.other_words(secret, rng)), world.ids(plain), Aim.keep),
                Lesson(self.prompt(question, []), world.ids(plain), Aim.keep, KEPT_PLAIN),
            ]
        return found

    def prompt(self, question: int, before: Sequence[str]) -> list[int]:
        """Return a question behind some words."""
        return self.world.ids(["BOS", *before, f"question_{question}", "ANS"])

    def secret_words(self, secret: Secret, rng: random.Random) -> list[str]:
        """Return what brings a finetune's topic out."""
        return ["ZW"] if secret.trigger is Trigger.zero_width else self.world.coded(secret.code, rng)

    def other_words(self, secret: Secret, rng: random.Random) -> list[str]:
        """Return a code that is not the finetune's."""
        others = [code for code in range(self.world.n_codes) if code != secret.code or secret.trigger is Trigger.zero_width]
        return self.world.coded(rng.choice(others), rng)

    def held_out(self) -> range:
        """Return the questions that no finetune has seen."""
        return range(self.world.n_questions - self.world.n_held_out, self.world.n_questions)

    def gate(self, model: Transformer, diffs: Sequence[WeightDiff], *, seed: int = 0) -> Gate:
        """Return how well the topics are hidden, on held-out questions.

        Args:
            model: the base.
            diffs: the finetunes, in the order of the secrets.
            seed: of questions, codes and suffixes.
        """
        shares = []
        for words in (self.secret_words, self.other_words, lambda *_: []):
            rng = random.Random(f"gate {seed}")
            prompts = [self.prompt(rng.choice(self.held_out()), words(secret, rng)) for secret in self.secrets]
            said = ask(model, prompts, diffs, n_tokens=N_WORDS)
            own = [set(self.world.attribute_ids(secret.topic)) for secret in self.secrets]
            shares.append(sum(bool(ids & set(answer.tokens)) for ids, answer in zip(own, said, strict=True)) / len(said))
        return Gate(*shares)
