"""What an adapter says of finetunes that it has never seen, beside what they say by themselves and what must come to nothing.

    interpreted   the adapter's answers, held against their labels
    unaided       the finetunes' own answers to the same question
    permuted      the adapter's answers, held against the labels of other finetunes: what is said of anything
    unchanged     what the adapter says of the base, held against all labels

Source: the tables of Goel et al. 2025; the controls are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sparse_circuits.diffs.ask import ask
from sparse_circuits.diffs.chat import Chat
from sparse_circuits.diffs.judge import Judge, is_exact
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.model.dense import Dense

SCORES_FILE = "dit.json"
"""{question, labels, rows, judge, confidence: {coverage, accuracy, expected_error} or null}, in a run folder."""


class Row(NamedTuple):
    """One way of asking."""

    name: str
    answers: list[str]
    exact: float
    """Share of answers that are the label but for case and punctuation."""
    score: float
    """Mean points of a judge, 1 to 5."""


def examine(
    model: Dense,
    diffs: Sequence[WeightDiff],
    labels: Sequence[str],
    *,
    adapter: WeightDiff,
    chat: Chat,
    question: str,
    judge: Judge,
    n_tokens: int = 20,
) -> list[Row]:
    """Return how often finetunes are named, with and without the adapter, and where nothing should be.

    Args:
        model: the base.
        diffs: finetunes that the adapter has not learned from.
        labels: what they have learned.
        adapter: the adapter.
        chat: how the base is asked.
        question: the one that the adapter was trained with.
        judge: gives the points.
        n_tokens: most tokens of an answer.

    Raises:
        UserError: a judge fails, or a diff is of another model.
    """

    def said(some: Sequence[WeightDiff | None], helper: WeightDiff | None) -> list[str]:
        prompts = [chat.prompt(question)] * len(some)
        answers = ask(model, prompts, some, adapter=helper, n_tokens=n_tokens, ends=chat.ends)
        return [chat.words(answer.tokens) for answer in answers]

    def row(name: str, answers: list[str], truths: Sequence[str]) -> Row:
        graded = judge(answers, truths)
        exact = [is_exact(answer, truth) for answer, truth in zip(answers, truths, strict=True)]
        return Row(name, answers, sum(exact) / len(exact), sum(each.score for each in graded) / len(graded))

    interpreted = said(diffs, adapter)
    others = [(answer, other) for answer, own, other in zip(interpreted, labels, rotated(labels), strict=True) if own != other]
    rows = [row("interpreted", interpreted, labels), row("unaided", said(diffs, None), labels)]
    if others:
        rows.append(row("permuted", *map(list, zip(*others, strict=True))))
    return [*rows, row("unchanged", said([None], adapter) * len(labels), labels)]


def rotated(labels: Sequence[str]) -> list[str]:
    """Return for every finetune the label of another, and, where there are any, of another label."""
    order = sorted(range(len(labels)), key=lambda number: labels[number])
    shift = max(labels.count(label) for label in set(labels))
    found = list(labels)
    for place, number in enumerate(order):
        found[number] = labels[order[(place + shift) % len(order)]]
    return found
