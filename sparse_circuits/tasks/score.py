"""What a task asks of logits: the right answer against the wrong one (Gao et al. 2025, section 2.2).

Pure and differentiable; logits are read at each prompt's last position.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from sparse_circuits.tasks.encode import PairBatch
from sparse_circuits.tasks.task import Scoring


def answer_difference(logits: Float[Tensor, "n_prompts d_vocab"], batch: PairBatch) -> Float[Tensor, " n_prompts"]:
    """Return the log odds of the positive prompt's answer against what it competes with, for both prompts of every pair.

    `pair` and `prefix_set` compare the two answers' tokens, `complement` the positive answer with every other token.
    """
    # bf16 logits near 20 lie 0.125 apart, too coarse for a difference
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    positive, negative = batch.answers.repeat(2, 1, 1).unbind(1)
    match batch.scoring:
        case Scoring.pair | Scoring.prefix_set:
            return _log_mass(logits, positive) - _log_mass(logits, negative)
        case Scoring.complement:
            return _log_mass(logits, positive) - _log_mass_of_others(logits, positive)
    raise AssertionError(batch.scoring)


def answer_probabilities(logits: Float[Tensor, "n_prompts d_vocab"], batch: PairBatch) -> Float[Tensor, "n_prompts 2"]:
    """Return the probability, among all tokens, of each prompt's own answer and of the other prompt's.

    Under `complement` the negative answer is every token but the positive one.
    """
    log_probabilities = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
    positive, negative = batch.answers.repeat(2, 1, 1).unbind(1)
    p_positive = _log_mass(log_probabilities, positive).exp()
    match batch.scoring:
        case Scoring.pair | Scoring.prefix_set:
            p_negative = _log_mass(log_probabilities, negative).exp()
        case Scoring.complement:
            p_negative = 1 - p_positive
        case other:
            raise AssertionError(other)
    both = torch.stack([p_positive, p_negative], dim=1)
    return torch.cat([both[: batch.n_pairs], both[batch.n_pairs :].flip(1)])


def _log_mass(logits: Float[Tensor, "n_prompts d_vocab"], ids: Int[Tensor, "n_prompts n_ids"]) -> Float[Tensor, " n_prompts"]:
    """Return the log-sum-exp over each row's ids; -1 stands for no id."""
    return logits.gather(1, ids.clamp(min=0)).masked_fill(ids < 0, -torch.inf).logsumexp(1)


def _log_mass_of_others(
    logits: Float[Tensor, "n_prompts d_vocab"], ids: Int[Tensor, "n_prompts 1"]
) -> Float[Tensor, " n_prompts"]:
    return logits.scatter(1, ids, -torch.inf).logsumexp(1)


def right_margins(difference: Float[Tensor, " n_prompts"]) -> Float[Tensor, " n_prompts"]:
    """Return the log odds of each prompt's own answer: positive where the model is right."""
    positive, negative = difference.chunk(2)
    return torch.cat([positive, -negative])


def task_losses(difference: Float[Tensor, " n_prompts"]) -> Float[Tensor, " n_prompts"]:
    """Return the two-way cross-entropy of each prompt's own answer in nats; the task loss is its mean."""
    return softplus(-right_margins(difference))


def task_accuracy(difference: Float[Tensor, " n_prompts"]) -> float:
    """Return the share of prompts whose own answer is the likelier one; a tie is a miss."""
    return (right_margins(difference) > 0).double().mean().item()
