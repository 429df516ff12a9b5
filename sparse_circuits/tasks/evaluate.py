"""How well a model does on a task, for the doctor and for the training loop."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.tasks.calibrate import calibrate
from sparse_circuits.tasks.encode import PairBatch, encode_pairs
from sparse_circuits.tasks.score import answer_difference, right_margins, task_accuracy, task_losses
from sparse_circuits.tasks.task import Task

KNOWN_ACCURACY = 0.95
TARGET_LOSS = 0.15
"""In nats; the paper's target, and the loss under which a model (or a bigram table alone) knows a task."""

Model = Callable[..., Tensor]
"""`model(tokens, at=last)` gives the logits at each row's position `last`, (batch, d_vocab)."""

Bigram = Callable[[Tensor], Tensor]
"""The bigram table's logits (batch, d_vocab) that follow tokens (batch)."""


class Evaluation(NamedTuple):
    """Means over a batch's prompts."""

    loss: float
    """Two-way cross-entropy of the right answer, in nats."""
    accuracy: float
    margin: float
    """Score of the right answer minus the wrong one's, in nats."""

    @property
    def known(self) -> bool:
        return self.accuracy >= KNOWN_ACCURACY and self.loss < TARGET_LOSS


def evaluate_logits(logits: Float[Tensor, "n_prompts d_vocab"], batch: PairBatch) -> Evaluation:
    """Score the logits read at the last position of each prompt."""
    difference = answer_difference(logits, batch)
    return Evaluation(
        loss=task_losses(difference).mean().item(),
        accuracy=task_accuracy(difference),
        margin=right_margins(difference).mean().item(),
    )


@torch.no_grad()
def evaluate(model: Model, batch: PairBatch, *, batch_size: int = 64) -> Evaluation:
    """Run the model on both prompts of every pair, `batch_size` prompts at a time."""
    rows = zip(batch.tokens.split(batch_size), batch.last.split(batch_size), strict=True)
    return evaluate_logits(torch.cat([model(tokens, at=last) for tokens, last in rows]), batch)


@torch.no_grad()
def calibrated_bigram_loss(bigram: Bigram, batch: PairBatch) -> float:
    """Return the task loss of answering from each prompt's last token alone, at the best scale and threshold.

    A bigram task is no less one for being answered at the wrong scale, and a circuit is calibrated, too.
    """
    rows = torch.arange(len(batch.last), device=batch.last.device)
    margin = answer_difference(bigram(batch.tokens[rows, batch.last]), batch)
    return task_losses(calibrate(margin)(margin)).mean().item()


@torch.no_grad()
def check_vocabulary(model: Model, tokenizer: Tokenizer, *, device: torch.device | str = "cpu") -> None:
    """Refuse a model made for another vocabulary, before its answers are taken for ignorance.

    Raises:
        UserError: the model's logits do not have one entry for each of the tokenizer's tokens.
    """
    zero = torch.zeros(1, 1, dtype=torch.int64, device=device)
    d_vocab = model(zero, at=zero[0]).shape[-1]
    if d_vocab != tokenizer.d_vocab:
        raise UserError(
            f"The tokenizer has {tokenizer.d_vocab} tokens, but the model was made for {d_vocab}: use the tokenizer that"
            " is saved beside the model."
        )


def task_evaluator(
    tasks: Sequence[Task],
    tokenizer: Tokenizer,
    *,
    split: Split = Split.validation,
    n_pairs: int = 64,
    seed: int = 0,
    max_tokens: int | None = None,
    device: torch.device | str = "cpu",
    on_unfit: Callable[[UserError], None] | None = None,
) -> Callable[[Model], dict[str, float]]:
    """Return a function of a model that gives each task's loss and accuracy and how many tasks it knows.

    Args:
        max_tokens: the longest prompt allowed, the model's n_ctx.
        on_unfit: is told of each task that yields too few valid pairs with this tokenizer, which is then left out.

    Raises:
        UserError: a task yields too few valid pairs, and nobody is to be told.
    """
    batches = {}
    for task in tasks:
        try:
            pairs = encode_pairs(task, tokenizer, split=split, n_pairs=n_pairs, seed=seed, max_tokens=max_tokens)
        except UserError as error:
            if on_unfit is None:
                raise
            on_unfit(error)
            continue
        batches[task.name] = pairs.to(device)

    def metrics(model: Model) -> dict[str, float]:
        results = {name: evaluate(model, batch) for name, batch in batches.items()}
        losses = {f"tasks/{name}/loss": result.loss for name, result in results.items()}
        accuracies = {f"tasks/{name}/accuracy": result.accuracy for name, result in results.items()}
        return {**losses, **accuracies, "tasks/known": float(sum(result.known for result in results.values()))}

    return metrics
