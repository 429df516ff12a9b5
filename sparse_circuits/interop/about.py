"""What an exported program says of itself: task, circuit, card, and a command to try."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator, Sequence

from sparse_circuits.circuits import Card, Circuit
from sparse_circuits.interop.answers import Question, sides_of
from sparse_circuits.interop.layout import WIDTH
from sparse_circuits.tasks import Scoring

HEADLINE = ("model", "circuit", "necessity", "random", "outside")
"""Checks of the card that the program repeats."""

N_SHOWN = 4
"""Tokens shown of an answer that is a set of them."""


def about(circuit: Circuit, asked: Question, *, name: str) -> str:
    """Return the beginning of the docstring of the program `name`, safe between its triple quotes."""
    card = circuit.card
    summary = (
        f"A circuit of {card.n_nodes} nodes and {card.n_edges} edges in the weight-sparse model {circuit.model_hash[:12]}, "
        f"as a program that needs numpy alone. On {card.n_pairs} held-out pairs, when it was extracted:"
    )
    blocks = [
        _wrapped(f"{circuit.task.name}: {circuit.task.summary}"),
        _wrapped(summary),
        "\n".join(_headline(card)),
        _wrapped(_usage(circuit, asked)),
        f"    {_command(circuit, asked, name=name)}",
    ]
    return "\n\n".join(blocks).replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def _headline(card: Card) -> Iterator[str]:
    yield textwrap.fill(card.verdict, WIDTH, initial_indent="    verdict     ", subsequent_indent=" " * 16)
    for each in card.checks:
        if each.name in HEADLINE:
            yield f"    {each.name:<12}loss {each.loss:.3f}  accuracy {each.accuracy:.3f}  {each.about}"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


def _usage(circuit: Circuit, asked: Question) -> str:
    complement = circuit.task.scoring is Scoring.complement
    positive = shown(circuit, asked.positive) or "the positive answer"
    negative = "every other token" if complement else shown(circuit, asked.negative) or "the negative one"
    usage = f"It takes the token ids of a prompt up to its answer, and prints the probability of {positive} against {negative}"
    if asked.example is None:
        return f"{usage}:"
    return f"{usage}; for {circuit.tokenizer.decode(asked.example.positive)!r}:"


def shown(circuit: Circuit, ids: Sequence[int]) -> str:
    """Return the texts of the first of some tokens."""
    texts = [repr(circuit.tokenizer.token(token)) for token in ids[:N_SHOWN]]
    return " ".join([*texts, "..."] if len(ids) > N_SHOWN else texts)


def _command(circuit: Circuit, asked: Question, *, name: str) -> str:
    words = ["python", shlex.quote(name)]
    if asked.example is None:
        words += ["ID", "[ID ...]"]
        sides = [["ID"], [] if circuit.task.scoring is Scoring.complement else ["ID"]]
    else:
        words += map(str, asked.example.positive)
        (sides,) = sides_of(circuit, [asked.example])
    for option, side in zip(("--positive", "--negative"), sides, strict=True):
        if side and not asked.positive:
            words += [option, *side]
    return textwrap.fill(" ".join(map(str, words)), WIDTH - 6).replace("\n", " \\\n        ")
