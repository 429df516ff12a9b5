"""What checks shapes while tests run: beartype, but not on functions inside functions, which it would wrap at every call."""

from collections.abc import Callable
from typing import Any

from beartype import beartype


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its annotations checked, unless it is local to another."""
    return function if "<locals>" in getattr(function, "__qualname__", "") else beartype(function)
