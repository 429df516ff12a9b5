"""Configs as plain JSON values and back, so that every saved file can say exactly what it was made with."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from sparse_circuits.errors import UserError, nearest

Config = TypeVar("Config")


def to_plain(value: Any) -> Any:
    """Turn a dataclass, with all that it holds, into dicts, lists, strings and numbers."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {str(key): to_plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(each) for each in value]
    return value


def from_plain(kind: type[Config], values: dict[str, Any]) -> Config:
    """Build a config dataclass from what `to_plain` made of one.

    Raises:
        UserError: a key or an enum value that the dataclass does not know.
    """
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise UserError(f'{kind.__name__} has no key "{key}"{nearest(key, hints)}: the file is of another version.')
    return kind(**{key: _convert(hints[key], value) for key, value in values.items()})


def _convert(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = [each for each in typing.get_args(hint) if each is not type(None)]
        return None if value is None else _convert(hint, value)
    if typing.get_origin(hint) in (list, tuple):
        container, item = typing.get_origin(hint), typing.get_args(hint)[0]
        return container(_convert(item, each) for each in value)
    if dataclasses.is_dataclass(hint):
        return from_plain(hint, value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        if value not in hint.__members__:
            raise UserError(f'{hint.__name__} has no value "{value}"{nearest(str(value), hint.__members__)}.')
        return hint[value]
    return Path(value) if hint is Path else value
