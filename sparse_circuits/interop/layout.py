"""Python literals laid out as tables that fit a line's width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

WIDTH = 128


def parts_of(opening: str, items: Iterable[object], closing: str) -> list[str]:
    """Return a literal's items, brackets on the first and the last: what may stand on a line of its own."""
    parts = [str(item) for item in items] or [""]
    parts[0] = f"{opening}{parts[0]}"
    parts[-1] += closing
    return parts


def fill(parts: Iterable[str], *, indent: str, hanging: str = "") -> Iterator[str]:
    """Yield lines that each hold as many parts as fit, a comma behind every part; all but the first hang deeper."""
    line = indent
    for part in parts:
        if line.strip() and len(line) + len(part) + 1 > WIDTH:
            yield line.rstrip()
            line = indent + hanging
        line += f"{part}, "
    yield line.rstrip()


def table(rows: Mapping[str, Sequence[str]], *, packed: bool) -> str:
    """Return the text of a dict.

    Args:
        rows: for the text of each key the parts of its value.
        packed: whether keys share lines; else each begins one.
    """
    entries = [[f"{key}: {parts[0]}", *parts[1:]] for key, parts in rows.items()]
    if packed:
        lines = fill((part for entry in entries for part in entry), indent="    ")
    else:
        lines = (line for entry in entries for line in fill(entry, indent="    ", hanging="    "))
    return "\n".join(["{", *lines, "}"])
