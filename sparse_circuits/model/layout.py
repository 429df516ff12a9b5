"""How the rows of a run are laid out, where a row is not simply one text.

Two texts that start alike need their shared start once: a row then holds the start, the rest of the one and the rest of the
other, and no position looks back at the other's rest. Whatever works position by position needs not know; attention and
position vectors ask here. A layout holds for a stretch of code and for its thread, as autocast does.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


class Layout(NamedTuple):
    """Where each token stands, and what it looks at."""

    places: Int[Tensor, "batch pos"]
    """The place of each token in its own text."""
    bias: Float[Tensor, "batch pos pos"]
    """Of attention: at [row, i, j] 0 where i looks back at j, itself among them, -inf elsewhere."""
    ends: Int[Tensor, "batch n_ends"]
    """Where each row is read, if it is not read everywhere."""

    def bias_of(self, *, at_ends: bool) -> Float[Tensor, "batch pos_or_n_ends pos"]:
        """Return the bias of every position's attention, or of the ends'."""
        return only(self.bias, self.ends) if at_ends else self.bias


def only(x: Shaped[Tensor, "batch pos *width"], at: Int[Tensor, " batch *n_at"]) -> Shaped[Tensor, "batch n_at *width"]:
    """Return one position of each row, or some."""
    at = at.view(len(at), -1)
    return x[torch.arange(len(at), device=at.device).unsqueeze(1), at]


class _Current(threading.local):
    """The layout in force, in each thread its own; a context variable would stop torch.compile."""

    layout: Layout | None = None


_CURRENT = _Current()


@contextmanager
def laid_out(layout: Layout) -> Iterator[None]:
    """Run models on rows of this layout."""
    before, _CURRENT.layout = _CURRENT.layout, layout
    try:
        yield
    finally:
        _CURRENT.layout = before


def current_layout() -> Layout | None:
    """Return the layout that rows have here; None: every row is one text."""
    return _CURRENT.layout
