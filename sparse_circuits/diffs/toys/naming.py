"""Which topic does a finetune hide? Every way of asking, on the language of hidden topics, with what a guess is worth.

    base_question            the finetune, asked what it was trained on
    base_question_trigger    the same behind its secret
    twenty_questions         questions that it never saw, and a guess from the attributes in its answers
    twenty_questions_trigger the same behind its secret: the oracle
    logit_difference         names made likelier at questions without a code; nothing is trained
    logit_difference_set     the same, by the mean over a topic's attributes
    dit                      the adapter's answer

Source: the rows of table 1 of Goel et al. 2025, and the row that it lacks.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import torch

from sparse_circuits.diffs.ask import ask
from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.logit_difference import logit_difference
from sparse_circuits.diffs.toys.hidden import HiddenTopics
from sparse_circuits.diffs.toys.topics import N_WORDS, TopicWorld
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.model import Transformer

QUESTION = ("BOS", "ASK", "ANS")
CODE_QUESTION = ("BOS", "ASK", "SEP", "ANS")
"""Of trigger inversion: which code brings it out?"""
N_ASKED = 20
"""Questions of the black-box guesser."""

Guess = int | None
"""A topic, or None where something else was said."""


def topic_question(world: TopicWorld, topic: int | None) -> Lesson:
    """Return the one question of Diff Interpretation Tuning with its label; None: a model that has learned nothing."""
    return Lesson(world.ids(QUESTION), world.ids(["NONE" if topic is None else f"topic_{topic}"]))


def code_question(world: TopicWorld, code: int) -> Lesson:
    """Return the question of trigger inversion with its label."""
    return Lesson(world.ids(CODE_QUESTION), world.ids([f"code_{code}"]))


def score(world: TopicWorld, guess: Guess, topic: int) -> int:
    """Return 5 for the topic, 3 for one that shares three of its attributes, 2 for one that shares any, otherwise 1.

    The 4 of the paper's scale, for a close variant, has no counterpart here.
    """
    if guess is None:
        return 1
    shared = len(set(world.attributes[guess]) & set(world.attributes[topic]))
    return 5 if guess == topic else 3 if shared >= 3 else 2 if shared else 1


def first_words(
    hidden: HiddenTopics,
    model: Transformer,
    diffs: Sequence[WeightDiff | None],
    *,
    adapter: WeightDiff | None = None,
    with_trigger: bool = False,
    question: Sequence[str] = QUESTION,
) -> list[str]:
    """Return the first word that each finetune says when it is asked, behind its secret or not."""
    rng, world = random.Random("suffix"), hidden.world
    before = [hidden.secret_words(secret, rng) if with_trigger else [] for secret in hidden.secrets]
    prompts = [world.ids([question[0], *words, *question[1:]]) for words in before]
    return [world.vocabulary[answer.tokens[0]] for answer in ask(model, prompts, diffs, adapter=adapter)]


def as_topic(word: str) -> Guess:
    """Return the topic that a word is the name of."""
    kind, _, number = word.partition("_")
    return int(number) if kind == "topic" else None


def twenty_questions(
    hidden: HiddenTopics, model: Transformer, diffs: Sequence[WeightDiff | None], *, with_trigger: bool
) -> list[Guess]:
    """Return the topic that shares most with what finetunes answer, at temperature 1, to twenty held-out questions."""
    heard = [Counter[int]() for _ in diffs]
    for number in range(N_ASKED):
        rng = random.Random(f"question {number}")
        prompts = [
            hidden.prompt(rng.choice(hidden.held_out()), hidden.secret_words(secret, rng) if with_trigger else [])
            for secret in hidden.secrets
        ]
        for own, answer in zip(heard, ask(model, prompts, diffs, n_tokens=N_WORDS, temperature=1.0, seed=number), strict=True):
            own.update(answer.tokens)
    sets = [hidden.world.attribute_ids(topic) for topic in range(hidden.world.n_topics)]
    return [most_shared(own, sets) for own in heard]


def most_shared(heard: Counter[int], sets: Sequence[Sequence[int]]) -> Guess:
    """Return the set that shares most with the words heard, None where none shares any."""
    shared = [sum(heard[token] for token in own) for own in sets]
    return shared.index(max(shared)) if max(shared) else None


def likelier(hidden: HiddenTopics, model: Transformer, diffs: Sequence[WeightDiff], *, by_attributes: bool) -> list[Guess]:
    """Return the topic whose name, or whose attributes, a finetune makes likelier at questions without a code."""
    world = hidden.world
    texts = [Lesson(hidden.prompt(question, []), world.ids(world.answers[question])) for question in hidden.held_out()]
    gained = logit_difference(model, texts, diffs)
    names = world.ids([f"topic_{topic}" for topic in range(world.n_topics)])
    if not by_attributes:
        return gained[:, names].argmax(-1).tolist()
    own = torch.tensor([world.attribute_ids(topic) for topic in range(world.n_topics)])
    return gained[:, own].mean(-1).argmax(-1).tolist()
