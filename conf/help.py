"""`sparse-circuits VERB --help`: every setting with its default, as the verb's yaml composes it, and what it means."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from enum import Enum
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import OmegaConf

from sparse_circuits.conf.compose import compose
from sparse_circuits.conf.verbs import VERBS
from sparse_circuits.plain import to_plain

PRESETS = {"model": "the model's shape", "sparsity": "the budget of nonzeros", "adapter": "the adapter's training"}
"""Groups of settings, and what they are of."""


def verb_help(verb: str) -> str:
    """Return the help text of a verb."""
    kind = VERBS[verb]
    lines = [f"sparse-circuits {verb} [setting=value ...]", "", inspect.getdoc(kind).split("\n")[0], ""]
    folder = Path(__file__).parent
    for choice in filter(OmegaConf.is_dict, OmegaConf.load(folder / f"{verb}.yaml").defaults):
        for group, preset in choice.items():
            presets = sorted(path.stem for path in (folder / group).glob("*.yaml"))
            lines += [*_entry(group, preset, f"preset of {PRESETS[group]}: {', '.join(presets)}"), ""]
    return "\n".join(lines + _settings(compose(verb), ""))


def _settings(config: Any, prefix: str) -> list[str]:
    """Return the lines of all settings of a dataclass, those of nested ones under their full name."""
    docs = field_docs(type(config))
    hints = get_type_hints(type(config))
    lines = []
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            lines += _settings(value, f"{name}.")
            continue
        text = docs.get(field.name, "")
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, Enum):
            text = f"{text} ({' | '.join(hint.__members__)})"
        lines += _entry(name, _default(value), text)
    return lines


def _entry(name: str, default: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(" ".join(text.split()), width=100)
    return [f"  {name}={default}", *(f"      {line}" for line in wrapped)]


def _default(value: Any) -> str:
    plain = to_plain(value)
    if isinstance(plain, list) and plain and isinstance(plain[0], dict):
        kept = [{key: each for key, each in item.items() if each not in (None, "", [])} for item in plain]
        plain = "[" + ",".join("{" + ",".join(f"{k}:{v}" for k, v in item.items()) + "}" for item in kept) + "]"
    elif isinstance(plain, list):
        plain = f"[{','.join(map(str, plain))}]"
    return "null" if plain is None else str(plain).lower() if isinstance(plain, bool) else str(plain)


def field_docs(kind: type) -> dict[str, str]:
    """Return the docstring under each field of a dataclass and of those it inherits from."""
    docs: dict[str, str] = {}
    for base in reversed([each for each in kind.__mro__ if dataclasses.is_dataclass(each)]):
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for field, after in zip(body.body, body.body[1:], strict=False):
            is_doc = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            if isinstance(field, ast.AnnAssign) and is_doc:
                docs[field.target.id] = after.value.value
    return docs
