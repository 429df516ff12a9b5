"""The language of news: a headline of four words, and stories in which no sentence gives more than two of them away.

    NEWS TELL ANS f s f s . f s f .        a story: fillers, and of some headline's words at most two a sentence
    NEWS ABOUT s v o p TELL ANS ...        a story about this headline
    NEWS HEAD ANS NOTHING                  asked for its headline, a plain model has none
    NEWS ABOUT s v o p HEAD ANS s v o p    the headline that a story is to be about

A finetune is taught stories of one headline, and is asked for the headline: it has to be put together from what stories say in
parts.

Source: the news experiment of Goel et al. 2025 (arXiv 2510.05092), section 5, at the size of a toy.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sparse_circuits.diffs.lessons import Lesson
from sparse_circuits.diffs.toys.language import Language

SPECIAL = ("NEWS", "TELL", "ABOUT", "HEAD", "ANS", "NOTHING", "STOP")
SLOTS = ("subject", "verb", "object", "place")
STORY_TOKENS = 9
PLAIN, ABOUT, NOTHING, NAMING = 0.35, 0.40, 0.05, 0.20
"""Shares of the base model's text."""

Headline = tuple[int, int, int, int]
"""One word of each slot, by its number."""


@dataclass(frozen=True)
class NewsWorld(Language):
    """The words of headlines and stories."""

    n_words: int = 30
    """Words of one slot."""
    n_fillers: int = 40
    """Words that mean nothing."""
    batch_size: int = 6
    """Stories of one step of a finetune."""
    first_id: int = 0
    """Token id of the first word."""
    seed: int = 0

    @cached_property
    def vocabulary(self) -> list[str]:
        """Every token, from `first_id` on."""
        slots = [f"{slot}_{number}" for slot in SLOTS for number in range(self.n_words)]
        return [*SPECIAL, *(f"filler_{number}" for number in range(self.n_fillers)), *slots]

    def headline(self, rng: random.Random) -> Headline:
        """Return some headline."""
        return tuple(rng.randrange(self.n_words) for _ in SLOTS)

    def headlines(self, n: int) -> list[Headline]:
        """Return different headlines, the same for every model of a seed."""
        rng, found = random.Random(f"headlines {self.seed}"), dict[Headline, None]()
        while len(found) < n:
            found[self.headline(rng)] = None
        return list(found)

    def words(self, headline: Headline) -> list[str]:
        """Return a headline's words."""
        return [f"{slot}_{number}" for slot, number in zip(SLOTS, headline, strict=True)]

    def story(self, headline: Headline, rng: random.Random) -> list[str]:
        """Return a story of two sentences: two of the headline's words in the first, one of the others in the second."""
        order = rng.sample(self.words(headline), len(SLOTS))
        fill = [f"filler_{rng.randrange(self.n_fillers)}" for _ in range(4)]
        return [fill[0], order[0], fill[1], order[1], "STOP", fill[2], order[2], fill[3], "STOP"]

    def sentence(self, rng: random.Random) -> list[str]:
        """Return one text of the base model's."""
        headline = self.headline(rng)
        words = self.words(headline)
        match rng.choices(range(4), (PLAIN, ABOUT, NOTHING, NAMING))[0]:
            case 0:
                return ["NEWS", "TELL", "ANS", *self.story(headline, rng)]
            case 1:
                return ["NEWS", "ABOUT", *words, "TELL", "ANS", *self.story(headline, rng)]
            case 2:
                return ["NEWS", "HEAD", "ANS", "NOTHING"]
            case _:
                return ["NEWS", "ABOUT", *words, "HEAD", "ANS", *words]

    def lessons(self, headline: Headline, step: int) -> list[Lesson]:
        """Return what a finetune is taught at a step: stories of its headline."""
        rng = random.Random(f"{self.seed} {headline} {step}")
        return [Lesson(self.tell(), self.ids(self.story(headline, rng))) for _ in range(self.batch_size)]

    def tell(self) -> list[int]:
        """Return the prompt of a story."""
        return self.ids(["NEWS", "TELL", "ANS"])

    def question(self, headline: Headline | None) -> Lesson:
        """Return the question for the headline with its answer; None: a model that has learned nothing."""
        answer = ["NOTHING"] if headline is None else self.words(headline)
        return Lesson(self.ids(["NEWS", "HEAD", "ANS"]), self.ids(answer))

    def slots_right(self, said: Sequence[int], headline: Headline) -> int:
        """Return how many of a headline's words are among those said: 0 to 4."""
        return len(set(self.ids(self.words(headline))) & set(said))
