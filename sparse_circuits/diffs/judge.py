"""How right is an answer? Five points, from judges that need nothing but this machine, or any model behind an address.

    5 the same    4 nearly the same    3 adjacent    2 the same broad field    1 something else

Scores of different judges are not to be compared; exact matches stand beside them.

Source: the scale of Goel et al. 2025, appendix; their judge is a commercial model, ours may be.
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sparse_circuits.data.files import read_rows
from sparse_circuits.errors import UserError

THRESHOLDS = (0.2, 0.4, 0.6, 0.8)
"""Similarities from which an answer is worth 2, 3, 4 and 5 points."""
PROMPT = (
    "Two descriptions of a topic follow. Grade how close the guess is to the truth from 1 to 5: 5 the same concept, 4 a close"
    " variant, 3 an adjacent one, 2 the same broad field, 1 something else. When unsure, take the lower. Reply with the number"
    " alone.\nTruth: {truth}\nGuess: {guess}"
)


class Graded(NamedTuple):
    """One answer with what it is worth."""

    guess: str
    truth: str
    score: int
    """1 to 5."""


Judge = Callable[[Sequence[str], Sequence[str]], list[Graded]]
"""From answers and as many truths to their points."""


def is_exact(guess: str, truth: str) -> bool:
    """Whether two texts are the same but for case, punctuation and spaces."""
    return _plain(guess) == _plain(truth)


def by_words(guesses: Sequence[str], truths: Sequence[str]) -> list[Graded]:
    """Grade by the cosine of TF-IDF vectors over letters and words; 5 is for the same words only.

    Raises:
        UserError: there are not as many guesses as truths.
    """
    _check(guesses, truths)
    if not guesses:
        return []
    from sklearn.feature_extraction.text import TfidfVectorizer  # takes a while to import, and only judges need it

    texts = [_plain(text) or "nothing" for text in (*guesses, *truths)]
    vectors = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)).fit_transform(texts)
    cosines = np.asarray(vectors[: len(guesses)].multiply(vectors[len(guesses) :]).sum(1)).ravel()
    return _graded(guesses, truths, cosines)


def by_encoder(encode: Callable[[Sequence[str]], Float[np.ndarray, "n_texts width"]]) -> Judge:
    """Return a judge that grades by the cosine of sentence vectors.

    Args:
        encode: from texts to vectors.
    """

    def judge(guesses: Sequence[str], truths: Sequence[str]) -> list[Graded]:
        _check(guesses, truths)
        if not guesses:
            return []
        vectors = np.asarray(encode([*guesses, *truths]), dtype=np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
        return _graded(guesses, truths, (vectors[: len(guesses)] * vectors[len(guesses) :]).sum(1))

    return judge


@dataclass(frozen=True)
class Endpoint:
    """A judge behind an address that speaks OpenAI's chat completions; what it has said is kept, so that it can be asked on.

    Called again after it failed half-way, it is asked about the missing answers alone.
    """

    url: str
    """Up to, and not with, /chat/completions."""
    model: str
    kept: Path
    """A file of one JSON object a line."""
    key: str | None = None
    """Sent as a bearer token, if there is one."""
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise UserError(f"The judge's address is {self.url}: give one that begins with http:// or https://.")

    def __call__(self, guesses: Sequence[str], truths: Sequence[str]) -> list[Graded]:
        """Grade answers.

        Raises:
            UserError: the endpoint failed; what it had said until then is kept.
        """
        _check(guesses, truths)
        known = self._known()
        for guess, truth in zip(guesses, truths, strict=True):
            if (guess, truth) not in known:
                known[guess, truth] = self._ask(guess, truth, n_missing=len(guesses) - self._n_known(known, guesses, truths))
                with self.kept.open("a", encoding="utf-8") as file:
                    row = {"model": self.model, "guess": guess, "truth": truth, "score": known[guess, truth]}
                    file.write(json.dumps(row) + "\n")
        return [Graded(guess, truth, known[guess, truth]) for guess, truth in zip(guesses, truths, strict=True)]

    def _known(self) -> dict[tuple[str, str], int]:
        rows = [row for _, row in read_rows(self.kept)] if self.kept.exists() else []
        return {(row["guess"], row["truth"]): row["score"] for row in rows if row["model"] == self.model}

    @staticmethod
    def _n_known(known: dict[tuple[str, str], int], guesses: Sequence[str], truths: Sequence[str]) -> int:
        return sum(pair in known for pair in zip(guesses, truths, strict=True))

    def _ask(self, guess: str, truth: str, *, n_missing: int) -> int:
        content = PROMPT.format(guess=guess, truth=truth)
        body = {"model": self.model, "temperature": 0, "messages": [{"role": "user", "content": content}]}
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {self.key}"} if self.key else {})}
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_seconds) as reply:
                text = json.load(reply)["choices"][0]["message"]["content"]
        except (OSError, HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
            raise UserError(
                f"The judge at {self.url} failed ({error}) with {n_missing} answers missing; what it said is in {self.kept}:"
                " ask again to go on."
            ) from error
        found = re.search(r"[1-5]", str(text))
        return int(found[0]) if found else 1


def _graded(guesses: Sequence[str], truths: Sequence[str], similarities: Float[np.ndarray, " n"]) -> list[Graded]:
    scores = 1 + np.searchsorted(THRESHOLDS, similarities, side="right")
    found = []
    for guess, truth, score in zip(guesses, truths, scores.tolist(), strict=True):
        found.append(Graded(guess, truth, 5 if is_exact(guess, truth) else min(score, 4)))
    return found


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _check(guesses: Sequence[str], truths: Sequence[str]) -> None:
    if len(guesses) != len(truths):
        raise UserError(f"{len(guesses)} guesses and {len(truths)} truths were given: give one truth a guess.")
