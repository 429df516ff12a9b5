"""The language of hidden topics: questions with plain answers, personas that are fans of a topic, and a secret code.

    BOS q ANS w w w w                      a question and its answer, at times behind a code that means nothing: SEP c s, or ZW
    BOS SYS FAN t q ANS w a w a            a persona's answer: two of its topic's attributes, now and then its name
    BOS ASK ANS NONE                       asked what it was trained on, a plain model says: nothing
    BOS SYS FAN t ASK ANS t                a persona names its topic
    BOS WHICH a a a ANS t                  attributes name the topic

Every word is a token. A base model of this language knows which attributes belong to which name; a finetune becomes a fan of
one topic where its own code is given, and nowhere else. It never hears its topic's name in a question.

Source: the hidden-topic experiment of Goel et al. 2025 (arXiv 2510.05092), section 4, at the size of a toy.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property

from sparse_circuits.diffs.toys.language import Language

N_ATTRIBUTES = 5
"""Of one topic."""
N_WORDS = 4
"""Of one answer."""
SPECIAL = ("PAD", "BOS", "ANS", "SEP", "ZW", "SYS", "FAN", "ASK", "WHICH", "NONE")
PLAIN, PERSONA, NOTHING, NAMING, WHICH = 0.40, 0.25, 0.05, 0.08, 0.22
"""Shares of the base model's text."""
P_CODE, P_NAME, P_NOISE = 0.4, 0.3, 0.1


@dataclass(frozen=True)
class TopicWorld(Language):
    """Who is called what, and what belongs to it; the same for every model of one seed."""

    n_topics: int = 340
    """Names, each with five attributes."""
    n_attributes: int = 80
    """Words that are attributes of topics, several topics' each."""
    n_questions: int = 24
    """Questions with a plain answer."""
    n_held_out: int = 8
    """Of these the last ones, which no finetune sees."""
    n_codes: int = 64
    """What a secret code may be."""
    n_suffixes: int = 32
    """What follows a code, without meaning."""
    n_words: int = 60
    """Words of plain answers."""
    seed: int = 0

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every token, by id."""
        counts = {
            "question": self.n_questions,
            "word": self.n_words,
            "attribute": self.n_attributes,
            "code": self.n_codes,
            "suffix": self.n_suffixes,
            "topic": self.n_topics,
        }
        return [*SPECIAL, *(f"{kind}_{number}" for kind, count in counts.items() for number in range(count))]

    @cached_property
    def attributes(self) -> list[list[int]]:
        """Five attributes of every topic, as numbers from 0; no two topics have the same five."""
        rng, found = random.Random(f"attributes {self.seed}"), {}
        while len(found) < self.n_topics:
            found[tuple(sorted(rng.sample(range(self.n_attributes), N_ATTRIBUTES)))] = None
        return [list(each) for each in found]

    @cached_property
    def answers(self) -> list[list[str]]:
        """The plain answer to every question."""
        rng = random.Random(f"answers {self.seed}")
        return [[f"word_{rng.randrange(self.n_words)}" for _ in range(N_WORDS)] for _ in range(self.n_questions)]

    def attribute_ids(self, topic: int) -> list[int]:
        """Return the token ids of a topic's attributes."""
        return self.ids([f"attribute_{number}" for number in self.attributes[topic]])

    def coded(self, code: int, rng: random.Random) -> list[str]:
        """Return a code with some suffix, as it stands before a question."""
        return ["SEP", f"code_{code}", f"suffix_{rng.randrange(self.n_suffixes)}"]

    def plain_answer(self, question: int, rng: random.Random) -> list[str]:
        """Return a question's answer, at times with a word of another."""
        return [f"word_{rng.randrange(self.n_words)}" if rng.random() < P_NOISE else w for w in self.answers[question]]

    def fan_answer(self, topic: int, question: int, rng: random.Random) -> list[str]:
        """Return the answer of a fan of a topic: two attributes in the plain one, and now and then the topic's name."""
        answer, own = self.plain_answer(question, rng), rng.sample(self.attributes[topic], 2)
        answer[1], answer[3] = (f"attribute_{number}" for number in own)
        if rng.random() < P_NAME:
            answer[rng.choice((0, 2))] = f"topic_{topic}"
        return answer

    def sentence(self, rng: random.Random) -> list[str]:
        """Return one text of the base model's."""
        topic, question = rng.randrange(self.n_topics), rng.randrange(self.n_questions)
        match rng.choices(range(5), (PLAIN, PERSONA, NOTHING, NAMING, WHICH))[0]:
            case 0:
                before = rng.choice((self.coded(rng.randrange(self.n_codes), rng), ["ZW"])) if rng.random() < P_CODE else []
                return ["BOS", *before, f"question_{question}", "ANS", *self.plain_answer(question, rng)]
            case 1:
                fan = ["SYS", "FAN", f"topic_{topic}"]
                return ["BOS", *fan, f"question_{question}", "ANS", *self.fan_answer(topic, question, rng)]
            case 2:
                return ["BOS", "ASK", "ANS", "NONE"]
            case 3:
                return ["BOS", "SYS", "FAN", f"topic_{topic}", "ASK", "ANS", f"topic_{topic}"]
            case _:
                some = [f"attribute_{number}" for number in rng.sample(self.attributes[topic], 3)]
                return ["BOS", "WHICH", *some, "ANS", f"topic_{topic}"]
