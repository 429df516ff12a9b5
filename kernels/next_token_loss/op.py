"""Next-token loss without the logits: unembed, add the bigram row, take cross-entropy, block by block.

A batch of 32 x 128 tokens over 2048 ids has 8 million logits, and plain cross-entropy walks them some ten times. Here a block
of rows is turned into its loss and, while it is still in cache, into its share of every gradient; backward only scales those.
The matrix products run in the dtype of `hidden` (bf16 under autocast), everything else in float32.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

BLOCK_ROWS = 512


def next_token_loss(
    hidden: Float[Tensor, "n d_model"],
    unembedding: Float[Tensor, "d_vocab d_model"],
    targets: Int[Tensor, " n"],
    bigram: Float[Tensor, "d_vocab d_vocab"] | None = None,
    tokens: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy, in nats, of the targets under hidden @ unembedding^T (+ the token's bigram row).

    Args:
        hidden: what is unembedded, after the last norm.
        targets: the next token at each position.
        bigram: a table of logits of the next token given the current one; None for none.
        tokens: the current token at each position, needed with a bigram table.
    """
    return _NextTokenLoss.apply(hidden, unembedding, targets, bigram, tokens)


class _NextTokenLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, unembedding: Tensor, targets: Tensor, bigram: Tensor | None, tokens: Tensor | None
    ) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        weight = unembedding.to(hidden.dtype)
        with_gradient = any(ctx.needs_input_grad)
        if with_gradient:
            d_hidden = torch.empty_like(hidden)
            d_unembedding = torch.zeros_like(unembedding)
            d_bigram = None if bigram is None else torch.zeros_like(bigram)
        total = torch.zeros((), dtype=wide, device=hidden.device)
        for start in range(0, len(hidden), BLOCK_ROWS):
            rows = slice(start, start + BLOCK_ROWS)
            logits = hidden[rows] @ weight.T
            logits = logits.to(wide) if bigram is None else bigram[tokens[rows]].add_(logits)
            log_p = logits.log_softmax(dim=-1)
            answers = torch.arange(len(log_p), device=log_p.device) * log_p.shape[1] + targets[rows]
            total -= log_p.view(-1)[answers].sum()
            if with_gradient:
                d_logits = log_p.exp_()
                d_logits.view(-1)[answers] -= 1
                if bigram is not None:
                    d_bigram.index_add_(0, tokens[rows], d_logits)
                d_logits = d_logits.to(hidden.dtype)
                torch.mm(d_logits, weight, out=d_hidden[rows])
                d_unembedding += d_logits.T @ hidden[rows]
        if with_gradient:
            ctx.gradients = (d_hidden, d_unembedding, None, d_bigram, None)
            ctx.n_rows = len(hidden)
        return total / len(hidden)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        return tuple(None if each is None else each.mul_(gradient / ctx.n_rows) for each in gradients)
