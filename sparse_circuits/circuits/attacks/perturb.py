"""Edits of a pair's two prompts that leave each right answer right: what an attack may try.

Source: Gao et al. 2025, figures 5 and 8 (distractor brackets, diluted context). Three families, for prompts of Python code
that begin where a statement begins. Each edits both prompts alike, and leaves the line that is answered alone but for an open
list:
- distractor: one line more, before the place where the prompts part, between two statements: a comment, or a string assigned
  to a name that is new to the pair. Python skips the one, and nothing reads the other.
- dilute: more statements of the tasks' neutral forms, at such a place and with new names alone; or, where both prompts end in
  the same open list of numbers, more numbers at its head: with or without them it closes the same way.
- replace: variables that neither the last lines nor the answers mention get other names of the split, new to the pair and the
  same throughout both prompts: the same program but for a name.
Deviation: the authors wrote theirs by hand.
"""

from __future__ import annotations

import random
import re
import tokenize
from collections.abc import Sequence
from enum import Enum
from io import StringIO
from itertools import takewhile
from textwrap import indent
from typing import NamedTuple

from sparse_circuits.data.words import FILLER_FORMS, WORDS, Split
from sparse_circuits.tasks import Pair

N_FILLER_NAMES = 4
"""Most names in a filler statement."""

CONTINUES = re.compile(r"(elif|else|except|finally|case)\b")
"""Begins a line that belongs to the block above it, from which no statement may part it."""

OPEN_LIST = re.compile(r"(?<![\w\])])\[(\d+(?:, \d+)*)$")
"""Ends a prompt inside a list, not an index."""


class Family(Enum):
    """What an edit does to the prompts."""

    distractor = "distractor"
    dilute = "dilute"
    replace = "replace"


class Edit(NamedTuple):
    """A pair, edited."""

    pair: Pair
    family: Family
    size: int
    """Words of the distractor, statements or numbers added, names replaced."""
    change: str
    """What was added, or the names that were replaced."""


def with_comment(pair: Pair, words: Sequence[str]) -> Edit:
    """Put a comment of these words as low as one can come."""
    line = f"# {' '.join(words)}\n"
    return Edit(_insert(pair, line, at=line_places(pair)[-1]), Family.distractor, len(words), line.strip())


def draw_edit(pair: Pair, family: Family, *, size: int, words: Sequence[str], split: Split, rng: random.Random) -> Edit | None:
    """Draw an edit of a family.

    Args:
        pair: a pair of Python prompts.
        size: words of the distractor, statements or numbers added, names replaced; at least 1.
        words: what a distractor is made of.
        split: whose names to use.
        rng: the only source of chance.

    Returns:
        The edit; None where this pair has no place for one of this family and size.
    """
    match family:
        case Family.distractor:
            edited = _distract(pair, rng.choices(words, k=size), split, rng)
        case Family.dilute:
            edited = _dilute(pair, size, split, rng)
        case Family.replace:
            edited = _rename(pair, size, split, rng)
        case _:
            raise AssertionError(family)
    return edited and Edit(edited[0], family, size, edited[1])


Edited = tuple[Pair, str]


def _distract(pair: Pair, words: Sequence[str], split: Split, rng: random.Random) -> Edited | None:
    text, names = " ".join(words), new_names(pair, split)
    if names and rng.random() < 0.5:
        return _insert_lines(pair, [f"{rng.choice(names)} = {text!r}\n"], places=statement_places(pair), rng=rng)
    return _insert_lines(pair, [f"# {text}\n"], places=line_places(pair), rng=rng)


def _dilute(pair: Pair, size: int, split: Split, rng: random.Random) -> Edited | None:
    if (list_start := open_list(pair)) and rng.random() < 0.5:
        return _insert_numbers(pair, "".join(f"{rng.randint(1, 29)}, " for _ in range(size)), before_end=list_start)
    names = new_names(pair, split)
    if len(names) < N_FILLER_NAMES:
        return None
    lines = [f"{rng.choice(FILLER_FORMS).format(*rng.sample(names, N_FILLER_NAMES))}\n" for _ in range(size)]
    return _insert_lines(pair, lines, places=statement_places(pair), rng=rng)


def _rename(pair: Pair, size: int, split: Split, rng: random.Random) -> Edited | None:
    old, new = neutral_names(pair, split), new_names(pair, split)
    if size > min(len(old), len(new)):
        return None
    renamed = dict(zip(rng.sample(old, size), rng.sample(new, size), strict=True))
    pattern = rf"\b({'|'.join(renamed)})\b"
    prompts = [re.sub(pattern, lambda match: renamed[match[0]], prompt) for prompt in pair[:2]]
    return pair._replace(positive=prompts[0], negative=prompts[1]), ", ".join(f"{a} -> {b}" for a, b in renamed.items())


def line_places(pair: Pair) -> list[int]:
    """Return where a comment can come: the starts of lines up to which the prompts are alike and their statements whole."""
    whole_lines = [prompt.split("\n")[:-1] for prompt in pair[:2]]
    shared = [f"{line}\n" for line, other in takewhile(lambda both: both[0] == both[1], zip(*whole_lines, strict=False))]
    return [0, *(sum(map(len, shared[:row])) for row in _rows_of_statement_ends("".join(shared)))]


def _rows_of_statement_ends(code: str) -> list[int]:
    """Return how many lines of the code there are up to the end of each statement."""
    rows = []
    try:
        for token in tokenize.generate_tokens(StringIO(code).readline):
            if token.type == tokenize.NEWLINE and token.string:
                rows.append(token.end[0])
    except (tokenize.TokenError, IndentationError):
        pass  # the code ends inside a bracket or string, or began inside a block: what came before it stands
    return rows


def statement_places(pair: Pair) -> list[int]:
    """Return where a statement can come: where a comment can, and both prompts go on with a statement of the same depth."""

    def fits(place: int) -> bool:
        above = pair.positive[:place].rstrip().rsplit("\n", 1)[-1]
        below = [_next_line(prompt, place) for prompt in pair[:2]]
        goes_on = any(not line.strip() or CONTINUES.match(line.lstrip()) for line in below)
        return not goes_on and _indent(below[0]) == _indent(below[1]) and not above.lstrip().startswith("@")

    return list(filter(fits, line_places(pair)))


def _next_line(prompt: str, place: int) -> str:
    """Return the first line from a place on that is not empty."""
    return prompt[place:].lstrip("\n").split("\n", 1)[0]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


def _insert_lines(pair: Pair, lines: Sequence[str], *, places: Sequence[int], rng: random.Random) -> Edited | None:
    if not places:
        return None
    place = rng.choice(places)
    text = "".join(lines)
    return _insert(pair, text, at=place), text.rstrip("\n")


def _insert(pair: Pair, lines: str, *, at: int) -> Pair:
    """Insert lines, indented as the one that they come before."""
    text = indent(lines, _indent(_next_line(pair.positive, at)))
    positive, negative = (prompt[:at] + text + prompt[at:] for prompt in pair[:2])
    return pair._replace(positive=positive, negative=negative)


def open_list(pair: Pair) -> int:
    """Return how many characters before their end both prompts open the same list of numbers; 0 where they do not."""
    first, second = (OPEN_LIST.search(prompt) for prompt in pair[:2])
    return len(first[1]) if first and second and first[1] == second[1] else 0


def _insert_numbers(pair: Pair, numbers: str, *, before_end: int) -> Edited:
    positive, negative = (prompt[:-before_end] + numbers + prompt[-before_end:] for prompt in pair[:2])
    return pair._replace(positive=positive, negative=negative), numbers.rstrip(", ")


def neutral_names(pair: Pair, split: Split) -> list[str]:
    """Return the split's names that stand in a prompt, but in no last line and no answer."""
    last_lines = (prompt.rsplit("\n", 1)[-1] for prompt in pair[:2])
    fixed = _words(*last_lines, pair.positive_answer, pair.negative_answer)
    present = _words(*pair[:2])
    return [name for name in WORDS[split].names if name in present and name not in fixed]


def new_names(pair: Pair, split: Split) -> list[str]:
    """Return the split's names that the pair does not mention."""
    present = _words(*pair[:4])
    return [name for name in WORDS[split].names if name not in present]


def _words(*texts: str) -> set[str]:
    return set(re.findall(r"\w+", " ".join(texts)))
