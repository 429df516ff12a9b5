"""From a task's text pairs to token ids, keeping only pairs that ask exactly one question (Gao et al. 2025, section 2.2).

A prompt's answer is what encode(prompt + answer) adds to encode(prompt). Tokenizers differ in how they cut, so five things
can spoil a pair: the sides are not equally long, an answer merges into its prompt's last token, the answers never part, the
prompt is longer than the model reads, or the pair has been drawn before. Such draws are dropped and counted. Where both
answers start with the same tokens, those join the prompts, and the answers are the first tokens that differ.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import takewhile
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.tasks.draw import Draw
from sparse_circuits.tasks.task import Pair, Scoring, Task

MAX_DRAWS_PER_PAIR = 20
NO_TOKEN = -1


class Drop(Enum):
    """Why a drawn pair was dropped."""

    unequal_length = "unequal length"
    same_prompt = "both prompts alike"
    boundary = "answer merges into the prompt"
    same_answer = "both answers the same token"
    too_long = "longer than the model reads"
    duplicate = "duplicate"


class EncodedPair(NamedTuple):
    """Two prompts of equal length and the token that follows each."""

    positive: tuple[int, ...]
    negative: tuple[int, ...]
    positive_answer: int
    negative_answer: int


class Drawn(NamedTuple):
    """A task's valid pairs, as text and as ids in the same order, and how many other draws were dropped for what."""

    pairs: list[Pair]
    encoded: list[EncodedPair]
    dropped: Counter[Drop]

    @property
    def n_draws(self) -> int:
        return len(self.pairs) + self.dropped.total()


@dataclass(frozen=True)
class PairBatch:
    """Pairs as tensors: the positive prompts first, then their negatives; rows i and i + n_pairs are a pair."""

    tokens: Int[Tensor, "n_prompts pos"]
    """Right-padded with end_of_text; `last` says where a prompt ends, never the id."""
    last: Int[Tensor, " n_prompts"]
    """The position at which the answer is read."""
    answers: Int[Tensor, "n_pairs 2 n_ids"]
    """Ids that count as the positive ([:, 0]) and the negative ([:, 1]) prompt's answer, padded with -1."""
    scoring: Scoring

    @property
    def n_pairs(self) -> int:
        return len(self.answers)

    def select(self, indices: Int[Tensor, " n_selected"]) -> "PairBatch":
        """Return the pairs at `indices`, both prompts of each."""
        rows = torch.cat([indices, indices + self.n_pairs])
        return replace(self, tokens=self.tokens[rows], last=self.last[rows], answers=self.answers[indices])

    def to(self, device: torch.device | str) -> "PairBatch":
        return replace(self, tokens=self.tokens.to(device), last=self.last.to(device), answers=self.answers.to(device))


def raw_pairs(task: Task, *, split: Split, seed: int) -> Iterator[Pair]:
    """Yield the task's draws without end, the same for every tokenizer."""
    rng = random.Random(f"{task.name} {split.name} {seed}")
    while True:
        yield task.generate(Draw(rng, split))


def encode_pair(pair: Pair, tokenizer: Tokenizer) -> EncodedPair | Drop:
    """Return the pair as ids, or why it is no fair question under this tokenizer."""
    positive, negative = (tuple(tokenizer.encode(prompt)) for prompt in (pair.positive, pair.negative))
    if len(positive) != len(negative):
        return Drop.unequal_length
    if positive == negative:
        return Drop.same_prompt
    positive_answer = _continuation(positive, pair.positive + pair.positive_answer, tokenizer)
    negative_answer = _continuation(negative, pair.negative + pair.negative_answer, tokenizer)
    if not positive_answer or not negative_answer:
        return Drop.boundary
    n_shared = _n_shared(positive_answer, negative_answer)
    if n_shared == min(len(positive_answer), len(negative_answer)):
        return Drop.same_answer
    shared = positive_answer[:n_shared]
    return EncodedPair(positive + shared, negative + shared, positive_answer[n_shared], negative_answer[n_shared])


def _continuation(prompt: tuple[int, ...], text: str, tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return what `text` adds to the prompt's ids; nothing where it changes them."""
    ids = tuple(tokenizer.encode(text))
    return ids[len(prompt) :] if ids[: len(prompt)] == prompt else ()


def _n_shared(first: Sequence[int], second: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda ids: ids[0] == ids[1], zip(first, second, strict=False)))


def draw_pairs(
    task: Task, tokenizer: Tokenizer, *, split: Split, n_pairs: int, seed: int, max_tokens: int | None = None
) -> Drawn:
    """Draw until `n_pairs` distinct valid pairs are found, or give up after 20 draws for each pair asked for.

    Args:
        max_tokens: the longest prompt allowed, a model's n_ctx; None: any length.
    """
    drawn, seen = Drawn([], [], Counter()), set()
    draws = raw_pairs(task, split=split, seed=seed)
    while len(drawn.pairs) < n_pairs and drawn.n_draws < MAX_DRAWS_PER_PAIR * n_pairs:
        pair = next(draws)
        encoded = encode_pair(pair, tokenizer)
        if encoded in seen:
            encoded = Drop.duplicate
        elif max_tokens and isinstance(encoded, EncodedPair) and len(encoded.positive) > max_tokens:
            encoded = Drop.too_long
        if isinstance(encoded, Drop):
            drawn.dropped[encoded] += 1
            continue
        seen.add(encoded)
        drawn.pairs.append(pair)
        drawn.encoded.append(encoded)
    return drawn


def encode_pairs(
    task: Task, tokenizer: Tokenizer, *, split: Split, n_pairs: int, seed: int, max_tokens: int | None = None
) -> PairBatch:
    """Return `n_pairs` valid pairs, distinct as token ids; the same arguments give the same batch.

    Args:
        max_tokens: the longest prompt allowed, a model's n_ctx; None: any length.

    Raises:
        UserError: the task yields too few valid pairs, with the reasons.
    """
    drawn = draw_pairs(task, tokenizer, split=split, n_pairs=n_pairs, seed=seed, max_tokens=max_tokens)
    if len(drawn.pairs) < n_pairs:
        raise UserError(
            f'Task "{task.name}" gave {len(drawn.pairs)} of {n_pairs} {split.name} pairs in {drawn.n_draws} draws with this'
            f" tokenizer (dropped: {reasons(drawn.dropped)}): ask for fewer pairs, change the task's text, or train the"
            " tokenizer on more code."
        )
    return collate(drawn.encoded, tokenizer, scoring=task.scoring)


def reasons(dropped: Counter[Drop]) -> str:
    """Say how many draws were dropped for what, the commonest reason first."""
    return ", ".join(f"{count} {drop.value}" for drop, count in dropped.most_common()) or "none"


def collate(pairs: Sequence[EncodedPair], tokenizer: Tokenizer, *, scoring: Scoring) -> PairBatch:
    """Stack encoded pairs into one batch."""
    prompts = [pair.positive for pair in pairs] + [pair.negative for pair in pairs]
    answers = _answer_ids(pairs, tokenizer, scoring=scoring)
    n_ids = max(len(ids) for sides in answers for ids in sides)
    return PairBatch(
        tokens=_padded(prompts, max(map(len, prompts)), fill=tokenizer.end_of_text),
        last=torch.tensor([len(prompt) - 1 for prompt in prompts]),
        answers=torch.stack([_padded(sides, n_ids, fill=NO_TOKEN) for sides in answers]),
        scoring=scoring,
    )


def _padded(rows: Sequence[Sequence[int]], width: int, *, fill: int) -> Int[Tensor, "n_rows width"]:
    return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows])


def _answer_ids(pairs: Sequence[EncodedPair], tokenizer: Tokenizer, *, scoring: Scoring) -> list[tuple[list[int], list[int]]]:
    match scoring:
        case Scoring.pair | Scoring.complement:
            return [([pair.positive_answer], [pair.negative_answer]) for pair in pairs]
        case Scoring.prefix_set:
            wanted = {(pair.positive_answer, pair.negative_answer) for pair in pairs}
            sets = {answers: prefix_sets(*answers, tokenizer) for answers in wanted}
            return [sets[pair.positive_answer, pair.negative_answer] for pair in pairs]
    raise AssertionError(scoring)


def prefix_sets(positive_answer: int, negative_answer: int, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return two disjoint sets of ids: the tokens that start with the one answer's text and with the other's.

    Where one answer's text starts with the other's (`")` and `")` + newline), a token that starts with both belongs to the
    longer one. End-of-text is no text and belongs to neither.
    """
    texts = {answer: tokenizer.token(answer) for answer in (positive_answer, negative_answer)}
    longest_first = sorted(texts, key=lambda answer: -len(texts[answer]))
    sets: dict[int, list[int]] = {answer: [] for answer in texts}
    for token_id in set(range(tokenizer.d_vocab)) - {tokenizer.end_of_text}:
        text = tokenizer.token(token_id)
        starts = [answer for answer in longest_first if text.startswith(texts[answer])]
        if starts:
            sets[starts[0]].append(token_id)
    return sorted(sets[positive_answer]), sorted(sets[negative_answer])
