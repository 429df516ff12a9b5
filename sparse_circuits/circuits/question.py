"""One prompt and two possible answers, as token ids."""

from __future__ import annotations

from itertools import takewhile

from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.tasks.encode import EncodedPair


def encode_question(prompt: str, answers: tuple[str, str], tokenizer: Tokenizer) -> EncodedPair:
    """Return the prompt, up to where its two answers part, and the token at which each of them goes on.

    Raises:
        UserError: the prompt is empty, or with this tokenizer an answer changes how the prompt is cut, or they never part.
    """
    ids = tokenizer.encode(prompt)
    continued = [tokenizer.encode(prompt + answer) for answer in answers]
    shared = [first for first, _ in takewhile(lambda both: both[0] == both[1], zip(*continued, strict=False))]
    if not ids or shared[: len(ids)] != ids:
        raise UserError(
            f"{answers[0]!r} and {answers[1]!r} do not follow {prompt[-20:]!r} at a token's end: "
            "move characters between prompt and answers."
        )
    if len(shared) == min(map(len, continued)):
        raise UserError(f"{answers[0]!r} and {answers[1]!r} start with the same tokens: give answers that part.")
    positive, negative = (each[len(shared)] for each in continued)
    return EncodedPair(tuple(shared), tuple(shared), positive, negative)
