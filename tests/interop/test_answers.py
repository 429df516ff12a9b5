"""Which ids a task is answered by: told by the file, by the project's own generator, or by neither."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sparse_circuits.interop.answers import question
from sparse_circuits.tasks import TASKS, Scoring, Split, encode_pairs
from tests.interop.made import answer_ids, answer_sets, made, of_task


@pytest.mark.parametrize("scoring", Scoring)
def test_the_texts_of_the_answers_tell_their_ids(scoring: Scoring) -> None:
    asked = question(made(scoring=scoring))
    positive, negative = answer_sets(scoring)
    assert asked.positive == positive
    assert asked.negative == ([] if scoring is Scoring.complement else negative)
    assert asked.example is None


def test_answers_that_the_task_was_not_scored_by_are_not_guessed() -> None:
    circuit = made()
    other = replace(circuit.task, answer_ids=[*answer_ids(), 5])
    assert question(replace(circuit, task=other))[:2] == ([], [])
    assert question(replace(circuit, task=replace(circuit.task, answers=None)))[:2] == ([], [])
    assert question(replace(circuit, task=replace(circuit.task, answers=("ab", "a"))))[:2] == ([], [])


@pytest.mark.parametrize("name", ["single_double_quote", "lambda_func", "else_elif"])
def test_a_task_of_the_project_tells_its_answers_and_an_example(name: str) -> None:
    circuit, task = of_task(name), TASKS[name]
    asked = question(circuit)
    pairs = encode_pairs(task, circuit.tokenizer, split=Split.held_out, n_pairs=5, seed=9)
    sides = [[token for token in side if token >= 0] for side in pairs.answers[0].tolist()]
    assert asked.positive == sides[0]
    assert asked.negative == ([] if task.scoring is Scoring.complement else sides[1])
    lengths = {len(prompt) for prompt in asked.example[:2]}
    assert len(lengths) == 1 and lengths.pop() < pairs.last.float().mean()


def test_answers_that_differ_from_pair_to_pair_are_none() -> None:
    asked = question(of_task("var_swap"))
    assert asked[:2] == ([], []) and asked.example is not None
