"""The one-line statements of the idioms: a phrase is a function that writes one."""

from __future__ import annotations

from collections.abc import Callable

from sparse_circuits.data.scribe import QUOTES, Scribe
from sparse_circuits.data.words import EXTENSIONS, FILLER_FORMS, INDEX_NAMES, INPUT_FILES, OUTPUT_FILES


def plain(s: Scribe) -> str:
    """A statement of the forms that the tasks use as fillers."""
    old = s.old(), s.old(), s.old()
    return s.choice(FILLER_FORMS).format(s.new(), *old)


def call(s: Scribe) -> str:
    old = s.old()
    return f"{s.new()} = {old}.{s.choice(('get', 'copy', 'pop', 'strip'))}()"


def constant(s: Scribe) -> str:
    return f"{s.new()} = {s.constant()}"


def say(s: Scribe) -> str:
    """A string that closes as it opened, after one of several callees."""
    text, old = s.string(1, 8), s.old()
    match s.number(0, 7):
        case 0:
            return f"{s.new()} = {text}"
        case 1:
            return f"{s.new()} = input({text})"
        case 2:
            return f"{s.new()} = {old}.split({text})"
        case 3:
            return f"{s.new()} = open({text})"
        case 4:
            return f"print({text}, {old})"
        case _:
            return f"print({text})"


def say_fields(s: Scribe) -> str:
    """An f-string: it always holds a field."""
    quote = s.choice(QUOTES)
    more = f" {s.words(1, 2)} {{{s.old()}}}" if s.chance(0.3) else ""
    text = f"f{quote}{s.words(1, 4)} {{{s.old()}}}{more}{quote}"
    return f"{s.new()} = {text}" if s.chance(0.2) else f"print({text})"


def flat_list(s: Scribe) -> str:
    quote = s.choice(("", "", *QUOTES))
    items = [quote + s.words(1, 1) + quote for _ in range(s.number(1, 8))] if quote else map(str, s.numbers(1, 12))
    return f"{s.new()} = [{', '.join(items)}]"


def nested_list(s: Scribe) -> str:
    n_columns = s.number(1, 8)
    return f"{s.new()} = {[s.numbers(n_columns, n_columns) for _ in range(s.choice((1, 1, 2, 3)))]}"


def dictionary(s: Scribe) -> str:
    quote = s.choice(("", "", *QUOTES))
    keys = [quote + s.words(1, 1) + quote for _ in range(s.number(1, 4))] if quote else s.numbers(1, 6)
    return f"{s.new()} = {{{', '.join(f'{key}: {s.number(1, 29)}' for key in keys)}}}"


def swap(s: Scribe) -> str:
    left, right = s.names(2)
    if s.chance(0.2):
        items, (i, j) = s.old(), s.sample(INDEX_NAMES, 2)
        left, right = f"{items}[{i}]", f"{items}[{j}]"
    return f"{left}, {right} = {right}, {left}"


def ternary(s: Scribe) -> str:
    attribute = s.choice(("", ".get()", ".copy()", ".pop()"))
    condition = s.choice(("{}", "{}", "not {}", "{} == {}", "{} < {}")).format(s.old(), s.old())
    old = s.old(), s.choice((s.old(), s.constant()))
    return f"{s.new()} = {old[0]}{attribute} if {condition} else {old[1]}"


def sort_by_key(s: Scribe) -> str:
    item, old = s.name(), s.old()
    key = s.choice((f"{item}[0]", f"{item}[1]", f"{item}.{s.name()}", f"len({item})", item))
    return f"{s.new()} = {s.choice(('sorted', 'sorted', 'min', 'max'))}({old}, key=lambda {item}: {key})"


def measure(s: Scribe) -> str:
    old = s.old()
    return f"{s.new()} = {s.choice(('len', 'sum', 'list', 'set'))}({old})"


def grow(s: Scribe) -> str:
    return s.choice(("{}.append({})", "{}[{}] = 1", "{} += 1", "{} += {}")).format(s.old(), s.old())


def open_file(s: Scribe) -> str:
    return f"{s.new()} = open({path_and_mode(s, is_read=s.chance(0.5))})"


def path_and_mode(s: Scribe, *, is_read: bool) -> str:
    """Return the arguments of `open`: the mode goes with the file's name."""
    quote = s.choice(QUOTES)
    path = f"{s.choice(INPUT_FILES if is_read else OUTPUT_FILES)}.{s.choice(EXTENSIONS)}"
    return f"{quote}{path}{quote}, {quote}{'r' if is_read else 'w'}{quote}"


PHRASES: dict[Callable[[Scribe], str], int] = {
    plain: 5,
    call: 2,
    constant: 3,
    say: 12,
    say_fields: 5,
    flat_list: 4,
    nested_list: 4,
    dictionary: 4,
    swap: 6,
    ternary: 8,
    sort_by_key: 5,
    measure: 1,
    grow: 1,
    open_file: 4,
}
"""How often each phrase is written, as a weight."""

_DECK = [phrase for phrase, weight in PHRASES.items() for _ in range(weight)]


def phrase(s: Scribe) -> str:
    """Write a one-line statement."""
    return s.choice(_DECK)(s)
