"""The compound statements of the idioms: a block is a function that writes unindented lines, nested to a given depth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sparse_circuits.data.phrases import path_and_mode, phrase, plain
from sparse_circuits.data.scribe import Scribe
from sparse_circuits.data.words import INDEX_NAMES, SHARED_NAME

LOCAL_FUNCTIONS = ("walk", "step", "rank", "fold", "scan", "swap")
ERRORS = ("ValueError", "KeyError", "TypeError", "IndexError")
CONDITIONS = ("{0}", "{0}", "{0}", "{0} == {1}", "{0} == {2}", "{0} == {2}", "{0} != {1}", "not {0}", "{0} in {1}", "{0} < {1}")
WHILE_CONDITIONS = ("{0}", "{0}", "{0}", "not {0}", "{0} < {1}", "len({0}) > 1")
STARTS = ("set()", "set()", '""', '""', "[]")
ADD_TO = {"set()": "{}.add({})", '""': "{} += {}", "[]": "{}.append({})"}


def indented(lines: Sequence[str]) -> list[str]:
    """Return the lines one level deeper."""
    return ["    " + line for line in lines]


def statements(s: Scribe, depth: int, *, high: int = 3) -> list[str]:
    """Write one to `high` statements, with blocks nested at most `depth` deep."""
    return [line for _ in range(s.number(1, high)) for line in _statement(s, depth)]


def _statement(s: Scribe, depth: int) -> list[str]:
    return s.choice(_DECK)(s, depth - 1) if depth > 0 and s.chance(0.5) else [phrase(s)]


def for_loop(s: Scribe, depth: int) -> list[str]:
    return [_for_line(s), *indented(statements(s, depth))]


def while_loop(s: Scribe, depth: int) -> list[str]:
    condition = s.choice(WHILE_CONDITIONS).format(s.old(), s.old())
    return [f"while {condition}:", *indented(statements(s, depth))]


def while_true(s: Scribe, depth: int) -> list[str]:
    end = s.choice(("break", "return True", "return False", f"return {s.old()}"))
    return ["while True:", *indented([*statements(s, depth), f"if {_condition(s)}:", "    " + end])]


def branch(s: Scribe, depth: int) -> list[str]:
    lines = [f"if {_condition(s)}:", *_branch_body(s, depth)]
    for _ in range(s.choice((0, 0, 1, 1, 2))):
        lines += [f"elif {_condition(s)}:", *_branch_body(s, depth)]
    return [*lines, "else:", *_branch_body(s, depth)] if s.chance(0.5) else lines


def read_file(s: Scribe, depth: int) -> list[str]:
    handle = s.choice(("f", "f", "file"))
    use = [f"{s.new()} = {handle}.read()"] if s.chance(0.5) else [f"for {s.new()} in {handle}:", "    " + plain(s)]
    return [f"with open({path_and_mode(s, is_read=True)}) as {handle}:", *indented(use)]


def write_file(s: Scribe, depth: int) -> list[str]:
    handle = s.choice(("f", "f", "file"))
    use = [f"{handle}.write({s.choice((s.old(), s.string(1, 3)))})" for _ in range(s.number(1, 2))]
    return [f"with open({path_and_mode(s, is_read=False)}) as {handle}:", *indented(use)]


def accumulate(s: Scribe, depth: int) -> list[str]:
    """Start one or two collections and fill them in a loop: how something is added depends on how each began."""
    item, *names = s.names(s.choice((2, 3)))
    if s.chance(0.4):
        names[0] = SHARED_NAME
    started = dict(zip(names, s.sample(STARTS, len(names)), strict=True))
    added = s.sample(names, len(names))
    return [
        *(f"{name} = {start}" for name, start in started.items()),
        *_without(started, (plain(s) for _ in range(s.choice((0, 0, 1, 2, 3))))),
        f"for {item} in {s.old()}:",
        *indented(_without(started, (plain(s) for _ in range(s.choice((0, 0, 0, 1, 2)))))),
        *indented([ADD_TO[started[name]].format(name, item) for name in added]),
    ]


def _without(names: Iterable[str], lines: Iterable[str]) -> list[str]:
    """Drop the lines that mention one of the names."""
    return [line for line in lines if set(names).isdisjoint(line.split())]


def local_function(s: Scribe, depth: int) -> list[str]:
    arguments = ", ".join(s.names(s.number(0, 2)))
    header = f"def {s.choice((s.choice(LOCAL_FUNCTIONS), s.name()))}({arguments}):"
    return [header, *indented([*statements(s, 0, high=2), f"return {s.old()}"])]


def _for_line(s: Scribe) -> str:
    items, item, i = s.old(), s.new(), s.choice(INDEX_NAMES)
    match s.number(0, 6):
        case 0 | 1:
            return f"for {i}, {item} in enumerate({items}):"
        case 2 | 3:
            return f"for {i} in range({s.choice((str(s.number(2, 20)), f'len({items})', items))}):"
        case _:
            return f"for {item} in {items}:"


def _condition(s: Scribe) -> str:
    return s.choice(CONDITIONS).format(s.old(), s.old(), s.constant())


def _branch_body(s: Scribe, depth: int) -> list[str]:
    ends = ("return True", "return False", f"return {s.old()}", f"raise {s.choice(ERRORS)}({s.string(1, 6)})")
    return indented(statements(s, depth, high=2) + ([s.choice(ends)] if s.chance(0.4) else []))


BLOCKS: dict[Callable[[Scribe, int], list[str]], int] = {
    for_loop: 6,
    while_loop: 2,
    while_true: 3,
    branch: 7,
    read_file: 3,
    write_file: 3,
    accumulate: 8,
    local_function: 2,
}
"""How often each block is written, as a weight."""

_DECK = [block for block, weight in BLOCKS.items() for _ in range(weight)]
