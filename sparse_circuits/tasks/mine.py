"""Tasks mined from a corpus: real contexts, cut just before the answer, and a minimal edit that changes the answer.

As far as the released samples show, the authors built their pairs so (Gao et al. 2025, section 2.2):
1. find the pattern in a document; 2. cut the text before the answer, and far enough back for a context; 3. swap the text
that decides the answer, which gives the other prompt; 4. keep the pair if both sides are valid, equally long and their
answers differ. Deviation: their windows start anywhere, ours at a line, so that a prompt reads as code.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.tasks.encode import Drop, encode_pair, reasons
from sparse_circuits.tasks.listed import dealt_split, listed_task
from sparse_circuits.tasks.task import Pair, Scoring, Task


@dataclass(frozen=True)
class Pattern:
    """Where a corpus asks a question, and the edit that turns it into the opposite question."""

    name: str
    summary: str
    regex: str
    """Has the named groups `edit`, the text that decides, and behind it `answer`, before which the prompt is cut."""
    edit: str
    """What the negative prompt has in place of the group `edit`; may refer to groups, as in re.sub."""
    answer: str
    """How the negative prompt goes on; may refer to groups."""
    scoring: Scoring = Scoring.pair

    def __post_init__(self) -> None:
        try:
            groups = re.compile(self.regex).groupindex
        except re.error as error:
            raise UserError(f'Pattern "{self.name}" is no regular expression ({error}): correct {self.regex!r}.') from error
        if not {"edit", "answer"} <= groups.keys():
            raise UserError(f'Pattern "{self.name}" needs the groups (?P<edit>...) and (?P<answer>...) in {self.regex!r}.')

    @cached_property
    def compiled(self) -> re.Pattern[str]:
        return re.compile(self.regex)


PATTERNS = (
    Pattern(
        "mined_quote",
        "the corpus closes `print(\"total` with `\")`, the edited `print('total` closes with `')`",
        regex=r"""\w\((?P<edit>")\w(?:[\w ]*\w)?(?P<answer>"\)\n)""",
        edit="'",
        answer="')\n",
    ),
    Pattern(
        "mined_else",
        "the corpus follows `else` with `:`, the edited `elif` goes on with anything but that",
        regex=r"\n +(?P<edit>else)(?P<answer>:\n)",
        edit="elif",
        answer=" not",
        scoring=Scoring.complement,
    ),
    Pattern(
        "mined_for",
        "the corpus follows `for node` with ` in`, the edited `while node` goes on with `:`",
        regex=r"\n +(?P<edit>for) \w+(?P<answer> in )",
        edit="while",
        answer=":\n",
    ),
)


class Mined(NamedTuple):
    """Valid pairs by split, and how many matches were dropped for what."""

    pairs: dict[Split, list[Pair]]
    dropped: Counter[Drop]


def mine_pairs(pattern: Pattern, documents: Iterable[str], tokenizer: Tokenizer, *, n_characters: int = 300) -> Mined:
    """Collect the valid pairs that a pattern finds.

    Args:
        documents: texts of a corpus; all pairs of one document belong to one split.
        n_characters: context kept before the answer, up to a whole line.
    """
    mined = Mined({split: [] for split in Split}, Counter())
    seen: set[Pair] = set()
    n_matching = 0
    for document in documents:
        pairs = list(_candidates(pattern, document, n_characters))
        split = dealt_split(n_matching)
        n_matching += bool(pairs)
        for pair in pairs:
            encoded = Drop.duplicate if pair in seen else encode_pair(pair, tokenizer)
            seen.add(pair)
            if isinstance(encoded, Drop):
                mined.dropped[encoded] += 1
            else:
                mined.pairs[split].append(pair)
    return mined


def _candidates(pattern: Pattern, document: str, n_characters: int) -> Iterator[Pair]:
    for match in pattern.compiled.finditer(document):
        end = match.start("answer")
        start = _line_start(document, end - n_characters, end=match.start("edit"))
        before, after = document[start : match.start("edit")], document[match.end("edit") : end]
        yield Pair(
            positive=before + match["edit"] + after,
            negative=before + match.expand(pattern.edit) + after,
            positive_answer=match["answer"],
            negative_answer=match.expand(pattern.answer),
            fillers=(),
        )


def _line_start(document: str, position: int, *, end: int) -> int:
    """Return the first start of a line from `position` on, or, where none comes before `end`, the one that `end` is in."""
    if position <= 0:
        return 0
    line_end = document.find("\n", position - 1, end)
    return (line_end if line_end >= 0 else document.rfind("\n", 0, end)) + 1


def mined_task(pattern: Pattern, documents: Iterable[str], tokenizer: Tokenizer, *, n_characters: int = 300) -> Task:
    """Return a task that draws from what a pattern finds.

    Raises:
        UserError: the corpus holds no valid pair, with the reasons.
    """
    mined = mine_pairs(pattern, documents, tokenizer, n_characters=n_characters)
    if not any(mined.pairs.values()):
        raise UserError(
            f'Pattern "{pattern.name}" found no valid pair (dropped: {reasons(mined.dropped)}):'
            f" widen {pattern.regex!r} or the corpus."
        )
    return listed_task(pattern.name, mined.pairs, summary=pattern.summary, scoring=pattern.scoring)
