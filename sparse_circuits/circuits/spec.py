"""What a circuit's file says of its task: enough to draw the same pairs again, and to ask the same question."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from sparse_circuits.circuits.sampler import TaskPairs
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.tasks import TASKS, Scoring, Split, Task
from sparse_circuits.tasks.encode import EncodedPair, draw_pairs, raw_pairs


@dataclass(frozen=True)
class TaskSpec:
    """Which question the circuit answers, and the pairs it was found and tested with."""

    name: str
    summary: str
    scoring: Scoring
    seed: int
    """Seed of the pairs of all splits."""
    n_train_pairs: int
    n_validation_pairs: int
    n_held_out_pairs: int
    answers: tuple[str, str] | None
    """The positive and the negative answer, where all pairs have the same two."""
    answer_ids: list[int] | None
    """Tokens that a circuit's file can score: all answers of all splits; None: every token."""


def task_spec(task: Task, pairs: TaskPairs, *, seed: int) -> TaskSpec:
    """Describe a task and the pairs of its splits."""
    return TaskSpec(
        name=task.name,
        summary=task.summary,
        scoring=task.scoring,
        seed=seed,
        n_train_pairs=pairs.train.n_pairs,
        n_validation_pairs=pairs.validation.n_pairs,
        n_held_out_pairs=pairs.held_out.n_pairs,
        answers=_only_answers(task, n_draws=pairs.validation.n_pairs, seed=seed),
        answer_ids=_answer_ids(task, pairs),
    )


def example_pairs(spec: TaskSpec, tokenizer: Tokenizer, *, n_pairs: int, max_tokens: int) -> list[EncodedPair]:
    """Draw held-out pairs of a circuit's task; none where it is not one of the project's own."""
    task = TASKS.get(spec.name)
    if task is None:
        return []
    return draw_pairs(task, tokenizer, split=Split.held_out, n_pairs=n_pairs, seed=spec.seed, max_tokens=max_tokens).encoded


def parting_tokens(answers: tuple[str, str], tokenizer: Tokenizer) -> tuple[int, int] | None:
    """Return the first tokens in which two answers differ."""
    ids = zip(*map(tokenizer.encode, answers), strict=False)
    return next((pair for pair in ids if pair[0] != pair[1]), None)


def _only_answers(task: Task, *, n_draws: int, seed: int) -> tuple[str, str] | None:
    draws = (pair for split in Split for pair in islice(raw_pairs(task, split=split, seed=seed), n_draws))
    answers = {(pair.positive_answer, pair.negative_answer) for pair in draws}
    return answers.pop() if len(answers) == 1 else None


def _answer_ids(task: Task, pairs: TaskPairs) -> list[int] | None:
    if task.scoring is Scoring.complement:
        return None
    return sorted({each for batch in pairs for each in batch.answers.flatten().tolist() if each >= 0})
