"""What a page asks, from JSON to a dataclass: every key known, every value of its type, or one sentence."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import typing
from enum import Enum
from typing import Any, TypeVar

from sparse_circuits.errors import UserError, nearest

Request = TypeVar("Request")

KINDS = {str: "text", int: "a whole number", float: "a finite number"}
NAMES = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


def read_request(kind: type[Request], body: bytes) -> Request:
    """Read a request.

    Args:
        kind: its dataclass, of text, numbers, enums, lists, tuples, tables by text, dataclasses and None.
        body: JSON.

    Raises:
        UserError: the body is no JSON, or does not fit.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError("The request is no JSON that can be read: send one object, in UTF-8, not deeply nested.") from error
    return _read(kind, value, "the request")


def _read(hint: Any, value: Any, name: str) -> Any:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = [each for each in typing.get_args(hint) if each is not type(None)]
        return None if value is None else _read(hint, value, name)
    if dataclasses.is_dataclass(hint):
        return _read_object(hint, value, name)
    if typing.get_origin(hint) is dict:
        return _read_table(hint, value, name)
    if typing.get_origin(hint) in (list, tuple):
        return _read_list(hint, value, name)
    return _read_plain(hint, value, name)


def _read_object(kind: type, value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise UserError(f"{name} is {_named(value)}: give an object.")
    hints, fields = typing.get_type_hints(kind), dataclasses.fields(kind)
    for key in value:
        if key not in hints:
            raise UserError(f"{name} has an unknown key{nearest(key, hints)}: give {', '.join(hints) or 'none'}.")
    for field in fields:
        is_required = field.default is field.default_factory is dataclasses.MISSING
        if is_required and field.name not in value:
            raise UserError(f"{name} lacks {field.name}: give {', '.join(hints)}.")
    return kind(**{key: _read(hints[key], each, key) for key, each in value.items()})


def _read_list(hint: Any, value: Any, name: str) -> Any:
    if not isinstance(value, list):
        raise UserError(f"{name} is {_named(value)}: give a list.")
    container, items = typing.get_origin(hint), typing.get_args(hint)
    if container is tuple and len(value) != len(items):
        raise UserError(f"{name} has {len(value)} entries: give {len(items)}.")
    return container(_read(items[place if container is tuple else 0], each, name) for place, each in enumerate(value))


def _read_table(hint: Any, value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UserError(f"{name} is {_named(value)}: give an object.")
    key_hint, value_hint = typing.get_args(hint)
    return {_read(key_hint, key, name): _read(value_hint, each, name) for key, each in value.items()}


def _read_plain(hint: Any, value: Any, name: str) -> Any:
    if isinstance(hint, type) and issubclass(hint, Enum):
        if not isinstance(value, str) or value not in hint.__members__:
            raise UserError(f"{name} is none of {', '.join(hint.__members__)}: choose one.")
        return hint[value]
    if not _fits(hint, value):
        raise UserError(f"{name} is {_named(value)}: give {KINDS[hint]}.")
    return hint(value)


def _fits(hint: type, value: Any) -> bool:
    match value:
        case bool():
            return False
        case str():
            return hint is str and _is_text(value)
        case int() | float():
            is_finite = abs(value) <= sys.float_info.max  # false for NaN
            return is_finite and (hint is float or (hint is int and isinstance(value, int)))
    return False


def _named(value: Any) -> str:
    """Say of what kind a value is, without repeating it."""
    return NAMES.get(type(value), "a number")


def _is_text(value: str) -> bool:
    """Whether a string has an encoding: JSON can name halves of a character."""
    return not any("\ud800" <= letter <= "\udfff" for letter in value)
