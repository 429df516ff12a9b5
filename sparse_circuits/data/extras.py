"""Heavier third parties, imported only when a user's choice needs them."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from sparse_circuits.errors import UserError


def require(module: str, *, extra: str) -> ModuleType:
    """Import `module`.

    Raises:
        UserError: it is not installed; the message names the extra of this package that brings it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UserError(f'{module} is not installed: run `pip install "sparse-circuits[{extra}]"`.') from error
