"""Asking finetunes: what they answer, token by token, many of them in one batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.diffs.apply import applied, applied_by_row, groups
from sparse_circuits.diffs.lessons import filled_up
from sparse_circuits.diffs.weight_diff import WeightDiff
from sparse_circuits.model.dense import Dense


class Answer(NamedTuple):
    """What was said."""

    tokens: list[int]
    """Up to, and with, the first that ends it."""
    logprob: float
    """Of all its tokens together, in nats."""
    first: Float[Tensor, " d_vocab"]
    """The probabilities of its first token."""


@torch.no_grad()
def ask(
    model: Dense,
    prompts: Sequence[Sequence[int]],
    diffs: Sequence[WeightDiff | None],
    *,
    adapter: WeightDiff | None = None,
    n_tokens: int = 1,
    ends: frozenset[int] = frozenset(),
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 64,
) -> list[Answer]:
    """Return what each finetune answers to its prompt.

    Args:
        model: the base.
        prompts: token ids, one text a finetune.
        diffs: the finetunes, None: the base itself.
        adapter: given to every finetune beside its own diff.
        n_tokens: how long an answer may be.
        ends: tokens that end it before.
        temperature: 0 takes the likeliest token each time, which is part of the method of Goel et al. 2025.
        seed: of what is drawn.
        batch_size: finetunes of low rank in one pass; others are asked one by one.

    Raises:
        UserError: a diff is of another model, or a text is longer than the model's n_ctx.
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[int, Answer] = {}
    for group in groups(diffs, at_once=batch_size):
        with ExitStack() as entered:
            entered.enter_context(applied_by_row(model, [diffs[number] for number in group]))
            if adapter is not None:
                entered.enter_context(applied(model, adapter))
            said = _generate(
                model,
                [prompts[number] for number in group],
                n_tokens,
                ends=ends,
                temperature=temperature,
                generator=generator,
            )
        found |= dict(zip(group, said, strict=True))
    return [found[number] for number in range(len(diffs))]


def _generate(
    model: Dense,
    prompts: Sequence[Sequence[int]],
    n_tokens: int,
    *,
    ends: frozenset[int],
    temperature: float,
    generator: torch.Generator,
) -> list[Answer]:
    texts = [list(prompt) for prompt in prompts]
    device = next(model.parameters()).device
    logprobs, is_done, first = torch.zeros(len(texts)), torch.zeros(len(texts), dtype=torch.bool), None
    for _ in range(n_tokens):
        at = torch.tensor([len(text) - 1 for text in texts], device=device)
        logits = model(filled_up(texts).to(device), at=at).float().cpu()
        if temperature == 0:
            drawn = logits.argmax(-1)
        else:
            drawn = torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator).squeeze(1)
        logprobs += logits.log_softmax(-1).gather(1, drawn.unsqueeze(1)).squeeze(1) * ~is_done
        first = logits.softmax(-1) if first is None else first
        for row, (text, token) in enumerate(zip(texts, drawn.tolist(), strict=True)):
            if not is_done[row]:
                text.append(token)
                is_done[row] = token in ends
        if is_done.all():
            break
    return [
        Answer(text[len(prompt) :], logprob, probabilities)
        for text, prompt, logprob, probabilities in zip(texts, prompts, logprobs.tolist(), first, strict=True)
    ]
