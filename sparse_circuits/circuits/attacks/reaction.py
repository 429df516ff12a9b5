"""What single words do to a circuit: each is repeated in a comment, which changes no answer, and the circuit is asked again.

Source: Gao et al. 2025, figure 5: a circuit that counts brackets also counts those that do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparse_circuits.circuits.attacks.attempt import Target, ask_circuit, make_attempt
from sparse_circuits.circuits.attacks.perturb import with_comment
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.data.tokenizer import Tokenizer

N_REPEATS = 4


@dataclass(frozen=True)
class Reaction:
    """What a word in a comment does to a circuit."""

    word: str
    change: float
    """Added to the margin of the positive answer, in nats: mean over the prompts tried."""


def react(circuit: Circuit, targets: Sequence[Target], words: Sequence[str]) -> list[Reaction]:
    """Measure what words in a comment do to a circuit.

    Args:
        targets: pairs that get the comment; a word that does not fit all of them is left out.
        words: each on its own.

    Returns:
        The reactions, the strongest towards the negative answer first.
    """
    edits = {word: [with_comment(target.pair, [word] * N_REPEATS) for target in targets] for word in words}
    attempts = {word: [make_attempt(circuit, *each) for each in zip(targets, row, strict=True)] for word, row in edits.items()}
    fitting = {word: row for word, row in attempts.items() if all(row)}
    after = ask_circuit(circuit, [attempt for row in fitting.values() for attempt in row]).view(2, -1, len(targets))
    changes = (after - ask_circuit(circuit, targets).unsqueeze(1)).mean(2)
    towards_positive = (changes[0] - changes[1]) / 2
    return sorted(map(Reaction, fitting, towards_positive.tolist()), key=lambda reaction: reaction.change)


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """Return the tokens that can stand in a line, without the spaces around them."""
    tokens = (tokenizer.token(each).strip() for each in range(tokenizer.d_vocab) if each != tokenizer.end_of_text)
    return sorted({token for token in tokens if token.isascii() and token.isprintable() and token})
