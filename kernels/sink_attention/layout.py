"""How sink attention lays out what it returns, (batch, pos, head, d_head), so that joining the heads costs nothing."""

from einops import rearrange
from torch import Tensor


def empty_rows(q: Tensor) -> Tensor:
    """Return room for (batch, n_heads, pos, d_head)."""
    n_batch, n_heads, n_pos, d_head = q.shape
    return rearrange(q.new_empty(n_batch, n_pos, n_heads, d_head), "batch pos head d -> batch head pos d")


def in_rows(x: Tensor) -> Tensor:
    """Return x (batch, n_heads, pos, d_head) in this layout, copied only if it is in another."""
    rows = rearrange(x, "batch head pos d -> batch pos head d").contiguous()
    return rearrange(rows, "batch pos head d -> batch head pos d")


def whole_rows(x: Tensor) -> Tensor:
    """Return x, copied only if its channels are not next to each other: no kernel takes a stride for them."""
    return x if x.stride(-1) == 1 else x.contiguous()
