"""The word lists of all splits: what the idioms may say, and what only the tasks of a later split say.

Training prompts speak with the training words, idioms with common words and invented names too. No word of the validation
and held-out splits ever occurs in an idiom, not even as a part of a longer identifier, so a circuit that answers with
held-out words has not learned them by heart. Held-out words are frequent in the standard library: a small tokenizer has them
as one token, and the model has met them there. Fillers are the neutral statements between a task's header and its target;
they are made of a split's own names, so two splits never share one. The number of extra tokens of a filler is known by its
form.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Split(Enum):
    """Train fits masks, validation chooses sizes and calibration, held_out is read once, for the card."""

    train = "train"
    validation = "validation"
    held_out = "held_out"


@dataclass(frozen=True)
class Words:
    """The words of one split."""

    names: tuple[str, ...]
    """Variables, arguments and attributes; capitalised, they name classes."""

    functions: tuple[str, ...]
    """Functions that enclose a task's target; the idioms define none of this name in any split."""

    strings: tuple[str, ...]
    """What stands between quotes."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WORDS: dict[Split, Words] = {
    Split.train: Words(
        names=_words("""
            data node items index result values size count start end key word total left right graph edges rows grid score
            queue stack table limit best item number group parts cost value line files info entry headers
            stream token action target order offset buffer tag section element pattern package strings objects methods child
            member position log port flags process case handle char loop top extra content field server timeout request
            other spec lineno master arguments example protocol res err output attribute doc col stat debug out sub dist sign
            change exc
        """),
        functions=_words("update build apply solve prepare visit"),
        strings=_words("""
            total cost result empty output input missing player average number of items done red blue green apple table
            ready loading saved score best row house water small large new old open closed hello world good morning
            the a is not to for in no with at be must should already exists called using more than between before after all
            any each other only same value key index list length size wrong bad read write file line data point
            shape color page price date day month year weight height width start end left right city
        """),
    ),
    Split.validation: Words(
        names=_words("""
            text lines source mode state prefix errors parent base names block pos part test path type arg time exception root
            level
        """),
        functions=_words("convert collect render resolve replace refresh"),
        strings=_words("""
            given first last next user format string bytes local global sequence text source test part base support system
        """),
    ),
    Split.held_out: Words(
        names=_words("""
            name args module object filename msg code obj method parser frame message encoding option command instance widget
            event socket header context
        """),
        functions=_words("run create parse check compile decode"),
        strings=_words("""
            argument expected invalid unknown default directory version option function thread error returned found object
            message command code header
        """),
    ),
}

COMMON_WORDS = _words("""
    actor agent album area array arrow asset atom axis badge ball band bank bar batch beam bed bell bill bird bit board boat
    body bonus book bound box brand bread bug cable cake camp car card cart cat cell chain chair chart chat chest claim
    clock cloud club coach coat coin cover cow cream crew crop cross crowd crown cup curve cycle dance dash deal debt deck
    delay delta depth desk diet digit disk dog door draft dream dress drive drop duty eagle earth edge egg epoch era essay
    exam exit eye face fan farm fee film final fire fish flag floor flow fold food foot force fork fruit fuel fund game gap
    gas gate gear gift glass goal gold grade grain grant grass gross guard guess guest guide hall hand hat heap heart heat
    hill hint hold hole home hook horse hotel hour hub hunt ice icon idea image inch issue job joint judge jump jury king
    knife label lake lamp land lane law layer lead leaf lens light lion loan lot luck lunch mail mark mask match meal meter
    milk mine model money moon motor mount mouse move movie music neck nest net night noise north novel nurse ocean oil
    onion opera orbit organ owner pace pack pair panel paper park party patch pay peak pen phase phone photo piano pie pilot
    pipe pixel place plan plane plant plate plot plug poem poet pool post pot power prize proof pulse pump queen radio rain
    rank rate ratio rent reply rice ride ring risk river road rock role roof room rope round route rule sail salad sale salt
    sand scale scene sea seat seed share shelf shell ship shirt shoe shop shot side site skill skin sky sleep slot smile
    smoke snow soap soil song soul sound soup south space speed spoon sport spot staff stage stamp star steam steel stem
    step stock stone store storm story style sugar suit sum sun swan tail talk tank taste tax tea team tent term theme tide
    tiger tile timer tin tip tone tool tooth topic touch tour tower town toy track trade trail train tree trend trial trip
    truck trust truth tube tune turn uncle union unit usage van verse video view voice voter wage wagon walk wall wave week
    wheel wind wine wing wire wolf wood wool work yard youth zebra zone
""")
"""Words that the idioms use beside the training words, in names and strings: with many, no rule is learned name by name."""

FILLER_FORMS = (
    "{} = {}",
    "{} = not {}",
    "{} = {} + {}",
    "{} = {} is not {}",
    "{} = {} + {} - {}",
    "{} = {} + {} is not {}",
)
"""Statements by their number of tokens beyond the shortest form, when every name is one token."""

INDEX_NAMES = ("i", "j", "k")
"""Loop counters, in every split: that they go with `range` depends on knowing them."""

SHARED_NAME = "current"
"""The one variable that every split uses, for the task whose answer must not depend on copying a name."""

INPUT_FILES = ("input", "data", "rules", "graph", "grid", "table")
"""Stems of files that are read, in every split: the mode depends on knowing them."""

OUTPUT_FILES = ("output", "result", "report", "summary", "scores", "backup")
"""Stems of files that are written, in every split."""

EXTENSIONS = ("txt", "csv", "json", "log")
