"""Is a task a fair question under this tokenizer, does the model know the answer, or does its bigram table know it alone?

A circuit is only worth extracting for a task that the model knows. The bigram table is never ablated, so a task that its row
of the last token answers would leave nothing to find.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from itertools import islice
from typing import Any

import torch

from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.data.words import Split
from sparse_circuits.tasks.encode import Drawn, collate, draw_pairs, raw_pairs
from sparse_circuits.tasks.evaluate import (
    TARGET_LOSS,
    Bigram,
    Evaluation,
    Model,
    calibrated_bigram_loss,
    check_vocabulary,
    evaluate,
)
from sparse_circuits.tasks.task import Pair, Scoring, Task


class Verdict(Enum):
    """What the doctor says of a task."""

    known = "known"
    """Accuracy at least 0.95 and loss under 0.15."""

    unknown = "unknown"
    """The model misses either."""

    bigram = "bigram"
    """The bigram table alone, once calibrated, brings the loss under 0.15."""

    invalid = "invalid"
    """Too few valid pairs with this tokenizer."""

    unscored = "unscored"
    """Enough valid pairs, but no model to ask."""


@dataclass(frozen=True)
class TaskText:
    """What the tokenizer makes of a task."""

    n_pairs: int
    """Valid pairs, distinct as token ids."""
    n_draws: int
    """Draws it took to find them."""
    dropped: dict[str, int]
    """Draws dropped, by reason."""
    n_tokens_min: int
    n_tokens_max: int
    """Shortest and longest prompt, 0 without pairs; the two prompts of a pair are always equally long."""
    positive_answers: tuple[str, ...]
    negative_answers: tuple[str, ...]
    """Texts of the answer tokens, the most frequent first."""
    n_fillers: int
    """Different filler statements."""
    n_train_fillers: int
    """Those of them that the train split uses too."""


@dataclass(frozen=True)
class Diagnosis:
    """One row of the doctor's table; what was not measured is None."""

    task: str
    scoring: Scoring
    verdict: Verdict
    text: TaskText
    evaluation: Evaluation | None
    """The model's loss, accuracy and margin."""
    bigram_loss: float | None
    """In nats, with the bigram table's row of the last token as the logits, its margins calibrated on these very pairs."""

    def to_dict(self) -> dict[str, Any]:
        """Return one flat row of plain values, for JSON."""
        measured = self.evaluation._asdict() if self.evaluation else dict.fromkeys(Evaluation._fields)
        return {
            "task": self.task,
            "scoring": self.scoring.name,
            "verdict": self.verdict.name,
            **asdict(self.text),
            **measured,
            "bigram_loss": self.bigram_loss,
        }


def examine(
    tasks: Sequence[Task],
    tokenizer: Tokenizer,
    *,
    model: Model | None = None,
    bigram: Bigram | None = None,
    split: Split = Split.validation,
    n_pairs: int = 200,
    seed: int = 0,
    max_tokens: int | None = None,
    device: torch.device | str = "cpu",
) -> list[Diagnosis]:
    """Examine each task with a tokenizer and, when given, a model.

    Args:
        model: `model(tokens, at=last)` gives logits (n_prompts, d_vocab).
        bigram: the bigram table's logits (n_prompts, d_vocab) for the ids of the last tokens.
        n_pairs: valid pairs that a task has to yield.
        max_tokens: the longest prompt allowed, the model's n_ctx.
        device: where model and bigram table are.

    Raises:
        UserError: the tokenizer's vocabulary does not fit the model.
    """
    if model is not None:
        check_vocabulary(model, tokenizer, device=device)
    diagnoses = []
    for task in tasks:
        drawn = draw_pairs(task, tokenizer, split=split, n_pairs=n_pairs, seed=seed, max_tokens=max_tokens)
        is_valid = len(drawn.pairs) == n_pairs
        evaluation = bigram_loss = None
        if is_valid:
            batch = collate(drawn.encoded, tokenizer, scoring=task.scoring).to(device)
            evaluation = evaluate(model, batch) if model is not None else None
            bigram_loss = calibrated_bigram_loss(bigram, batch) if bigram is not None else None
        train_fillers = _fillers(islice(raw_pairs(task, split=Split.train, seed=seed), drawn.n_draws))
        verdict = _verdict(evaluation, bigram_loss) if is_valid else Verdict.invalid
        text = _task_text(drawn, tokenizer, train_fillers=train_fillers)
        diagnoses.append(Diagnosis(task.name, task.scoring, verdict, text, evaluation, bigram_loss))
    return diagnoses


def _verdict(evaluation: Evaluation | None, bigram_loss: float | None) -> Verdict:
    if bigram_loss is not None and bigram_loss < TARGET_LOSS:
        return Verdict.bigram
    if evaluation is None:
        return Verdict.unscored
    return Verdict.known if evaluation.known else Verdict.unknown


def _task_text(drawn: Drawn, tokenizer: Tokenizer, *, train_fillers: set[str]) -> TaskText:
    lengths = [len(pair.positive) for pair in drawn.encoded]
    fillers = _fillers(drawn.pairs)
    return TaskText(
        n_pairs=len(drawn.pairs),
        n_draws=drawn.n_draws,
        dropped={drop.name: count for drop, count in drawn.dropped.most_common()},
        n_tokens_min=min(lengths, default=0),
        n_tokens_max=max(lengths, default=0),
        positive_answers=_texts((pair.positive_answer for pair in drawn.encoded), tokenizer),
        negative_answers=_texts((pair.negative_answer for pair in drawn.encoded), tokenizer),
        n_fillers=len(fillers),
        n_train_fillers=len(fillers & train_fillers),
    )


def _fillers(pairs: Iterable[Pair]) -> set[str]:
    return {filler for pair in pairs for filler in pair.fillers}


def _texts(ids: Iterable[int], tokenizer: Tokenizer) -> tuple[str, ...]:
    return tuple(tokenizer.token(token_id) for token_id, _ in Counter(ids).most_common())
