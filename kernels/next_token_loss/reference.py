"""The next-token loss spelled out: logits of every position, then cross-entropy in float32."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def next_token_loss(
    hidden: Float[Tensor, "n d_model"],
    unembedding: Float[Tensor, "d_vocab d_model"],
    targets: Int[Tensor, " n"],
    bigram: Float[Tensor, "d_vocab d_vocab"] | None = None,
    tokens: Int[Tensor, " n"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy, in nats, of the targets under hidden @ unembedding^T (+ the token's bigram row)."""
    logits = (hidden @ unembedding.T).to(torch.promote_types(hidden.dtype, torch.float32))
    if bigram is not None:
        logits = logits + bigram[tokens]
    return F.cross_entropy(logits, targets)
