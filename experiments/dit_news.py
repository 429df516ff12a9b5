"""Diff Interpretation Tuning of news, and of two behaviours at once: does an adapter read what it was not trained on?

    python -m experiments.dit_news

One cell a seed: a base of both languages, finetunes that hide a topic and finetunes that tell of a headline, an adapter for
each and one for both. Rows of news are slots right of four; of topics, the share named exactly. And how far the confidence of
an answer can be trusted, on a pool of which a third has no topic to name: the base, shuffled finetunes, and those of news;
asked through adapters that have learned ever fewer labels, which are right ever less often.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from experiments.cells import run_by_seed
from sparse_circuits.diffs.adapter import AdapterConfig, Sample, train_adapter
from sparse_circuits.diffs.ask import ask
from sparse_circuits.diffs.confidence import Signs, calibration, learn_confidence, shuffled, signs
from sparse_circuits.diffs.finetune import Curriculum, Finetune, FinetuneConfig, finetune
from sparse_circuits.diffs.toys.base import train_base
from sparse_circuits.diffs.toys.hidden import HiddenTopics, Secret
from sparse_circuits.diffs.toys.naming import topic_question
from sparse_circuits.diffs.toys.news import SLOTS, STORY_TOKENS, Headline, NewsWorld
from sparse_circuits.diffs.toys.topics import TopicWorld
from sparse_circuits.diffs.weight_diff import WeightDiff

N_TRAIN, N_VALIDATION, N_TEST = 200, 20, 100
N_ALL = N_TRAIN + N_VALIDATION + N_TEST
BASE_STEPS = 4000
TOPICS = FinetuneConfig(n_steps=220)
NEWS = FinetuneConfig(n_steps=100)
ADAPTER = AdapterConfig(lr=3e-3, batch_size=16, n_epochs=30)
N_WORDINGS = 3
"""Of the question, each behind another code, which the adapter never saw there."""
N_BASE = 2
"""How often the base stands in a pool."""
N_FEWER = (50, 25, 10)
"""Topics that other adapters have learned, whose confidence is measured, too."""
BASE = "toy"


class Toy:
    """A base of both languages, and the finetunes of each, in order: to train on, to stop by, to be asked."""

    def __init__(self, seed: int) -> None:
        self.topics = TopicWorld(n_topics=N_TRAIN + N_VALIDATION + N_TEST, seed=seed)
        self.news = NewsWorld(first_id=self.topics.d_vocab, seed=seed)
        self.model = train_base(self._draw, d_vocab=self.news.d_vocab, seed=seed, n_steps=BASE_STEPS)
        rng = random.Random(f"split {seed}")
        self.secrets = [Secret(t, rng.randrange(self.topics.n_codes)) for t in rng.sample(range(self.topics.n_topics), N_ALL)]
        self.headlines = self.news.headlines(N_ALL)
        self.hidden = HiddenTopics(self.topics, self.secrets)
        self.diffs = {
            "topics": self.finetuned(self.hidden.lessons, TOPICS),
            "news": self.finetuned(lambda number, step: self.news.lessons(self.headlines[number], step), NEWS),
        }
        self.lessons = {
            "topics": [topic_question(self.topics, secret.topic) for secret in self.secrets],
            "news": [self.news.question(headline) for headline in self.headlines],
        }
        self.nothing = {"topics": topic_question(self.topics, None), "news": self.news.question(None)}

    def _draw(self, rng: random.Random) -> list[int]:
        if rng.random() < 0.6:
            return self.topics.ids(self.topics.sentence(rng))
        return self.news.ids(self.news.sentence(rng))

    def finetuned(self, lessons: Curriculum, config: FinetuneConfig) -> list[WeightDiff]:
        return finetune(self.model, [Finetune({}, seed=n) for n in range(N_ALL)], lessons, base=BASE, config=config)

    def adapter(self, families: Sequence[str], *, n_labels: int = N_TRAIN) -> WeightDiff:
        """Return the adapter that learns so many labels of each of these families."""
        samples = {name: list(map(Sample, self.diffs[name], self.lessons[name])) for name in families}
        train = [sample for own in samples.values() for sample in own[:n_labels]]
        validation = [sample for own in samples.values() for sample in own[N_TRAIN : N_TRAIN + N_VALIDATION]]
        return train_adapter(
            self.model, train, base=BASE, nothing=self.nothing[families[0]], validation=validation, config=ADAPTER
        )

    def said(self, family: str, *, question: str, adapter: WeightDiff | None, n_tokens: int = len(SLOTS)) -> list[list[int]]:
        """Return what the finetunes of a family that are to be asked say to a family's question."""
        prompt, asked = self.nothing[question].prompt, self.diffs[family][-N_TEST:]
        answers = ask(self.model, [prompt] * N_TEST, asked, adapter=adapter, n_tokens=n_tokens)
        return [answer.tokens for answer in answers]

    def topics_named(self, said: Sequence[Sequence[int]]) -> float:
        """Return the share of hidden topics that are named at once."""
        labels = self.lessons["topics"][-N_TEST:]
        return sum(tokens[0] == label.answer[0] for tokens, label in zip(said, labels, strict=True)) / N_TEST

    def slots_right(self, said: Sequence[Sequence[int]]) -> float:
        """Return how many of four slots of a headline are right, in the mean."""
        headlines: list[Headline] = self.headlines[-N_TEST:]
        right = [self.news.slots_right(tokens, headline) for tokens, headline in zip(said, headlines, strict=True)]
        return sum(right) / N_TEST


def calibrated(toy: Toy, adapter: WeightDiff) -> dict[str, float]:
    """Return how often answers are right, all of them and the surer half, where some finetunes have no topic to name.

    Right is a finetune's own topic, and of what has none, that it has none.
    """
    rng, prompt = random.Random("wordings"), toy.nothing["topics"].prompt
    codes = [toy.topics.ids(toy.topics.coded(rng.randrange(toy.topics.n_codes), rng)) for _ in range(N_WORDINGS)]
    questions = [prompt, *([prompt[0], *code, *prompt[1:]] for code in codes)]

    def answered(numbers: range, n_others: int) -> tuple[list[Signs], np.ndarray]:
        topics, others = ([toy.diffs[name][number] for number in numbers] for name in ("topics", "news"))
        mixed = [shuffled(diff, seed=number) for number, diff in enumerate(topics[:n_others])]
        pool = [*topics, *mixed, *others[:n_others], *[None] * N_BASE]
        nothing = toy.nothing["topics"].answer
        truths = [toy.lessons["topics"][number].answer for number in numbers] + [nothing] * (len(pool) - len(topics))
        found = signs(toy.model, questions, pool, adapter=adapter)
        return found, np.array([sign.answer == truth for sign, truth in zip(found, truths, strict=True)])

    known, is_right = answered(range(N_TRAIN, N_TRAIN + N_VALIDATION), N_VALIDATION)
    confidence = learn_confidence(known, is_right.tolist())
    asked, is_right = answered(range(N_ALL - N_TEST, N_ALL), N_TEST // 4 - 1)
    found = calibration(confidence(asked), is_right)
    return {
        "n": len(asked),
        "all": found.at(1.0),
        "surer_half": found.at(0.5),
        "expected_error": found.expected_error,
        "by_margin": calibration(np.array([sign.margin for sign in asked]), is_right).at(0.5),
    }


def measure(seed: int) -> dict[str, object]:
    """Return every row for one seed."""
    toy = Toy(seed)
    of_topics, of_news, of_both = (toy.adapter(families) for families in (["topics"], ["news"], ["topics", "news"]))
    stories = ask(toy.model, [toy.news.tell()] * N_TEST, toy.diffs["news"][-N_TEST:], n_tokens=STORY_TOKENS)
    return {
        "gate": list(HiddenTopics(toy.topics, toy.secrets[-N_TEST:]).gate(toy.model, toy.diffs["topics"][-N_TEST:])),
        "news": {
            "base_question": toy.slots_right(toy.said("news", question="news", adapter=None)),
            "generated_story": toy.slots_right([story.tokens for story in stories]),
            "dit": toy.slots_right(toy.said("news", question="news", adapter=of_news)),
            "adapter_of_topics": toy.slots_right(toy.said("news", question="news", adapter=of_topics)),
            "adapter_of_topics_own_question": toy.slots_right(toy.said("news", question="topics", adapter=of_topics)),
            "adapter_of_both": toy.slots_right(toy.said("news", question="news", adapter=of_both)),
        },
        "topics": {
            "base_question": toy.topics_named(toy.said("topics", question="topics", adapter=None)),
            "dit": toy.topics_named(toy.said("topics", question="topics", adapter=of_topics)),
            "adapter_of_news": toy.topics_named(toy.said("topics", question="topics", adapter=of_news)),
            "adapter_of_news_own_question": toy.topics_named(toy.said("topics", question="news", adapter=of_news)),
            "adapter_of_both": toy.topics_named(toy.said("topics", question="topics", adapter=of_both)),
        },
        "confidence": {
            N_TRAIN: calibrated(toy, of_topics),
            **{n: calibrated(toy, toy.adapter(["topics"], n_labels=n)) for n in N_FEWER},
        },
    }


if __name__ == "__main__":
    run_by_seed(measure, __doc__, study="dit_news")
