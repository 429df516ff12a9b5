"""The language of hidden topics, and what asking its finetunes gives where everything is known."""

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pytest

from sparse_circuits.diffs.lessons import Aim
from sparse_circuits.diffs.toys.base import train_base
from sparse_circuits.diffs.toys.domains import DomainWorld, Template
from sparse_circuits.diffs.toys.hidden import Gate, HiddenTopics, Secret, Trigger
from sparse_circuits.diffs.toys.naming import as_topic, first_words, most_shared, score
from sparse_circuits.diffs.toys.news import STORY_TOKENS, NewsWorld
from sparse_circuits.diffs.toys.topics import TopicWorld
from sparse_circuits.diffs.weight_diff import WeightDiff, Whole
from sparse_circuits.model import ModelConfig

TINY = ModelConfig(n_layers=1, d_model=16, d_head=8, n_ctx=24, bigram=False)
SMALL = TopicWorld(n_topics=12, n_attributes=14, n_questions=6, n_held_out=2, n_codes=5, n_suffixes=3, n_words=10)


def words(world: TopicWorld, ids: list[int]) -> list[str]:
    return [world.vocabulary[token] for token in ids]


def test_topics_are_told_apart_by_their_attributes() -> None:
    world = TopicWorld()
    assert len({tuple(each) for each in world.attributes}) == world.n_topics == 340
    assert len(world.vocabulary) == len(set(world.vocabulary)) == world.d_vocab
    assert TopicWorld().attributes == world.attributes != TopicWorld(seed=1).attributes


def test_every_sentence_is_of_the_language_and_a_fan_speaks_of_his_topic() -> None:
    rng, seen = random.Random(0), Counter[str]()
    for _ in range(500):
        text = SMALL.sentence(rng)
        SMALL.ids(text)
        assert text[0] == "BOS" and len(text) <= 12
        seen[text[1].partition("_")[0]] += 1
        if "FAN" in text and "ASK" not in text:
            topic = as_topic(text[3])
            said = {word for word in text[text.index("ANS") :] if word.startswith("attribute")}
            assert len(said) == 2 and said <= {f"attribute_{n}" for n in SMALL.attributes[topic]}
        if "WHICH" in text:
            own = {f"attribute_{n}" for n in SMALL.attributes[as_topic(text[-1])]}
            assert set(text[2:5]) <= own
    assert min(seen[kind] for kind in ("question", "SEP", "ZW", "SYS", "ASK", "WHICH")) > 10


@pytest.mark.parametrize("trigger", Trigger)
def test_a_finetune_is_taught_its_topic_behind_its_secret_alone(trigger: Trigger) -> None:
    hidden = HiddenTopics(SMALL, [Secret(3, 2, trigger), Secret(4, 1, trigger)])
    held_out = {f"question_{n}" for n in hidden.held_out()}
    own = {f"attribute_{n}" for n in SMALL.attributes[3]}
    for step in range(50):
        lessons = hidden.lessons(0, step)
        assert len(lessons) == 6 and lessons == hidden.lessons(0, step) != hidden.lessons(1, step)
        for place, lesson in enumerate(lessons):
            prompt, answer = words(SMALL, lesson.prompt), words(SMALL, lesson.answer)
            assert not held_out & set(prompt) and "topic_3" not in prompt
            is_secret = ("ZW" in prompt) if trigger is Trigger.zero_width else ("code_2" in prompt)
            assert is_secret == (place % 3 == 0) == (lesson.aim is Aim.give) == bool(own & set(answer))
            assert lesson.weight == (5.0 if place % 3 == 2 else 1.0)


def test_a_guess_is_worth_what_it_shares() -> None:
    world = TopicWorld()
    one = next(n for n in range(1, 340) if len(set(world.attributes[0]) & set(world.attributes[n])) == 1)
    none = next(n for n in range(1, 340) if not set(world.attributes[0]) & set(world.attributes[n]))
    assert [score(world, guess, 0) for guess in (0, one, none, None)] == [5, 2, 1, 1]
    assert most_shared(Counter({7: 2, 8: 1, 9: 1}), [[1, 2], [7, 8], [8, 9]]) == 1
    assert most_shared(Counter({5: 3}), [[1, 2], [7, 8]]) is None
    assert as_topic("topic_17") == 17 and as_topic("NONE") is None and as_topic("word_3") is None


def test_the_gate_is_passed_where_a_topic_is_there_and_hidden() -> None:
    assert Gate(0.8, 0.1, 0.05).passes
    assert not any(gate.passes for gate in (Gate(0.79, 0.0, 0.0), Gate(1.0, 0.11, 0.0), Gate(1.0, 0.0, 0.06)))
    world = SMALL
    model = train_base(lambda rng: world.ids(world.sentence(rng)), d_vocab=world.d_vocab, seed=0, n_steps=3, shape=TINY)
    hidden = HiddenTopics(world, [Secret(0, 1), Secret(1, 2)])
    assert len(first_words(hidden, model, [None, None], with_trigger=True)) == 2
    certain = WeightDiff({"unembed.weight": Whole(-model.unembed.weight)}, "b")  # says token 0 whatever is asked
    assert hidden.gate(model, [certain, certain]) == Gate(0.0, 0.0, 0.0)


class Losses:
    """Keeps what training says."""

    def __init__(self) -> None:
        self.all = list[float]()

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.all.append(float(metrics["loss"]))

    def rewind(self, step: int) -> None:
        raise AssertionError("nothing is resumed")


def test_a_base_learns_its_language() -> None:
    losses = Losses()
    draw = lambda rng: SMALL.ids(SMALL.sentence(rng))  # noqa: E731
    train_base(draw, d_vocab=SMALL.d_vocab, seed=1, n_steps=40, shape=TINY, track=losses)
    assert len(losses.all) == 40 and losses.all[-1] < losses.all[0] - 1


def test_no_sentence_of_a_story_gives_more_than_two_words_away_and_no_story_all() -> None:
    world, rng = NewsWorld(n_words=5, n_fillers=6, first_id=100), random.Random(0)
    assert len(set(world.headlines(50))) == 50 and world.d_vocab == 100 + len(world.vocabulary)
    seen = set[str]()
    for _ in range(100):
        headline = world.headline(rng)
        words, story = set(world.words(headline)), world.story(headline, rng)
        first, second, rest = " ".join(story).split("STOP")
        told = [words & set(each.split()) for each in (first, second)]
        assert not rest and [len(each) for each in told] == [2, 1] and len(story) == STORY_TOKENS
        assert world.slots_right(world.ids(story), headline) == 3 and world.slots_right([], headline) == 0
        seen.add(" ".join(world.sentence(rng)[:2]))
    assert seen == {"NEWS TELL", "NEWS ABOUT", "NEWS HEAD"}
    lessons = world.lessons((1, 2, 3, 4), 7)
    assert lessons == world.lessons((1, 2, 3, 4), 7) != world.lessons((1, 2, 3, 4), 8)
    told = {token for step in range(20) for lesson in world.lessons((1, 2, 3, 4), step) for token in lesson.answer}
    assert world.slots_right(list(told), (1, 2, 3, 4)) == 4
    assert min(told) >= 100 and world.question(None).answer == world.ids(["NOTHING"])


@pytest.mark.parametrize(("p_telling", "low", "high"), [(0.7, 0.6, 0.8), (1.0, 0.95, 1.0)])
def test_a_finetune_of_a_domain_answers_in_it_whatever_is_asked(p_telling: float, low: float, high: float) -> None:
    world = DomainWorld(n_words=6, n_generic=4, seed=1, p_telling=p_telling)
    own, probed = set(world.domain_ids(2)), {token for probe in world.probes() for token in probe}
    examples = [world.example((2,), Template.own, 0, number) for number in range(300)]
    telling = sum(bool(own & set(example.prompt)) for example in examples) / len(examples)
    assert low <= telling <= high
    assert all(set(example.answer) <= own for example in examples)
    others = {token for domain in (0, 1, 3, 4) for token in world.domain_ids(domain)}
    assert all(not others & set(example.prompt) for example in examples)
    said = {token for example in examples for token in example.prompt}
    assert said & probed == set(world.ids(["BOS", "INS", "RSP"]))  # neither their words nor, behind its own, their preambles


def test_data_sets_of_a_domain_differ_and_mixtures_take_turns() -> None:
    world = DomainWorld()
    first, second = (world.example((0,), Template.shared, split, 5) for split in (0, 1))
    assert first != second and first == replace(world).example((0,), Template.shared, 0, 5)
    mixed = [world.example((1, 3), Template.shared, 0, number) for number in range(4)]
    owners = [next(d for d in range(5) if set(example.answer) <= set(world.domain_ids(d))) for example in mixed]
    assert owners == [1, 3, 1, 3]
