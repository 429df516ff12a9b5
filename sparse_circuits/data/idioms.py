"""Procedural documents of simple, repetitive, valid Python: the stand-in for the simple half of the paper's corpus.

Every idiom behind the twenty tasks occurs often and in varied surroundings, but never a task's prompt: prompts begin with
the header of a function whose name is reserved for them, and speak with the names of their split. A document is a small
module of imports, functions and classes, of 20 to 80 lines.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from sparse_circuits.data.blocks import indented, statements
from sparse_circuits.data.phrases import path_and_mode, plain
from sparse_circuits.data.recipes import recipe
from sparse_circuits.data.scribe import Scribe

IMPORTS = ("import os", "import sys", "import json", "import math", "import random", "from collections import deque")
VERBS = ("get", "find", "make", "add", "remove", "count", "show", "sort", "merge", "split", "move", "fill")


def idiom_documents(*, n_documents: int, seed: int) -> Iterator[str]:
    """Yield documents; the same seed yields the same ones, and a longer run begins with a shorter one's."""
    for index in range(n_documents):
        yield _document(Scribe(random.Random(f"{seed}/{index}")))


def _document(s: Scribe) -> str:
    lines = sorted(s.sample(IMPORTS, s.number(0, 3)))
    n_lines = s.number(20, 60)
    while len(lines) < n_lines:
        lines += ["", "", *s.choice((_function, _function, _function, _save_or_load, _class, recipe))(s)]
    return "\n".join(lines).lstrip("\n") + "\n"


def _function(s: Scribe) -> list[str]:
    names = s.names(s.choice((1, 2, 2, 2, 3, 4, 5, 6, 7)))
    s.bind(names)
    arguments = [f"{name}=None" for name in names] if s.chance(0.3) else names
    header = f"def {_function_name(s)}({', '.join(arguments)}):"
    return [header, *_docstring(s), *indented(_body(s))]


def _save_or_load(s: Scribe) -> list[str]:
    is_read = s.chance(0.5)
    name, (data, path) = s.name(), s.names(2)
    s.bind([data, path])
    use = "return f.read()" if is_read else f"f.write({data})"
    return [
        f"def {'load' if is_read else 'save'}_{name}({data}, {path}):",
        *_docstring(s),
        *indented([plain(s) for _ in range(s.number(0, 3))]),
        f"    with open({path_and_mode(s, is_read=is_read)}) as f:",
        f"        {use}",
    ]


def _class(s: Scribe) -> list[str]:
    attributes = s.names(s.number(2, 8))
    stored = s.sample(attributes, len(attributes)) if s.chance(0.5) else attributes
    lines = [
        f"class {s.name().capitalize()}:",
        f"    def __init__(self, {', '.join(attributes)}):",
        *(f"        self.{attribute} = {attribute}" for attribute in stored),
    ]
    for _ in range(s.number(0, 2)):
        names = s.names(s.number(0, 2))
        s.bind([*names, *(f"self.{attribute}" for attribute in attributes[:3])])
        header = f"def {_function_name(s)}({', '.join(['self', *names])}):"
        lines += ["", *indented([header, *indented(_body(s))])]
    return lines


def _body(s: Scribe) -> list[str]:
    """Write what stands in a function: fillers, a few statements, the end."""
    end = s.choice(("return True", "return False", f"return {s.old()}", f"return {s.old()}"))
    fillers = [plain(s) for _ in range(s.choice((0, 0, 1, 2, 3)))]
    return [*fillers, *statements(s, 2), *([end] if s.chance(0.8) else [])]


def _function_name(s: Scribe) -> str:
    verb = s.choice(VERBS)
    return verb if s.chance(0.3) else f"{verb}_{s.name()}"


def _docstring(s: Scribe) -> list[str]:
    return [f'    """{s.words(2, 6).capitalize()}."""'] if s.chance(0.1) else []
