"""Numbers as JSON holds them."""

from __future__ import annotations

import math
from typing import Any


def nine_digits(weight: float) -> float:
    """Drop the digits that float32 never had: nine bring back the same number."""
    return float(f"{weight:.9g}")


def finite(value: Any) -> Any:
    """Return a plain value in which every number that is not finite is None, as JSON has none."""
    match value:
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: finite(each) for key, each in value.items()}
        case list() | tuple():
            return [finite(each) for each in value]
        case _:
            return value
