"""Text from a model, token by token."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sparse_circuits.errors import UserError
from sparse_circuits.model.taps import Taps
from sparse_circuits.model.transformer import Transformer


@torch.no_grad()
def generate(
    model: Transformer,
    prompt: Sequence[int],
    *,
    n_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    seed: int = 0,
    taps: Taps | None = None,
) -> list[int]:
    """Continue a prompt; of a text longer than n_ctx the model sees the last n_ctx tokens.

    Args:
        prompt: token ids, at least one.
        n_tokens: how many to add.
        temperature: 0 takes the likeliest token each time.
        top_k: draw among this many likeliest tokens; None: among all.

    Raises:
        UserError: the prompt is empty, or temperature or top_k is out of range.
    """
    if not prompt:
        raise UserError("The prompt is empty: give at least one token to continue from.")
    if temperature < 0 or (top_k is not None and top_k < 1):
        raise UserError(f"Cannot draw with temperature {temperature} and top_k {top_k}: give at least 0 and at least 1.")
    device = model.embed.weight.device
    generator = torch.Generator(device).manual_seed(seed)
    ids = list(prompt)
    for _ in range(n_tokens):
        window = torch.tensor([ids[-model.config.n_ctx :]], device=device)
        logits = model(window, taps=taps, at=torch.tensor([window.shape[1] - 1], device=device))[0]
        ids.append(_draw(logits, temperature=temperature, top_k=top_k, generator=generator))
    return ids


def _draw(logits: torch.Tensor, *, temperature: float, top_k: int | None, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits.argmax())
    if top_k is not None and top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], float("-inf"))
    return int(torch.multinomial((logits / temperature).softmax(dim=-1), 1, generator=generator))
