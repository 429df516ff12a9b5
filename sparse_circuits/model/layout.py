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

from jaxtyping import Float, Int
from torch import Tensor


class Layout(NamedTuple):
    """Where each token stands, and what it looks at."""

    places: Int[Tensor, "batch pos"]
    """The place of each token in its own text."""
    bias: Float[Tensor, "batch pos pos"]
    """Of attention: at [row, i, j] 0 where i looks back at j, itself among them, -inf elsewhere."""


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
