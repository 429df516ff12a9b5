"""How sure is an answer? Signs that need no truth, joined to one probability, and what is right when the unsure are left out.

    margin       of the first token over the next likeliest one
    agreement    share of paraphrased questions with the same answer
    drop         by how much less likely the answer is when the finetune is exchanged for one of its entries in another order

An adapter answers for a finetune of another behaviour, or for none at all, as well, so that it has to be known when it knows
nothing. The three signs are joined by a logistic regression on finetunes with known labels, none of them among those asked.

Source: ours; Goel et al. 2025 leave open how an answer could be certified.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float

from sparse_circuits.diffs.ask import ask
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole
from sparse_circuits.errors import UserError
from sparse_circuits.model.dense import Dense


class Signs(NamedTuple):
    """What can be seen of an answer."""

    answer: list[int]
    """Token ids, of the first question."""
    margin: float
    agreement: float
    drop: float


def signs(
    model: Dense,
    questions: Sequence[Sequence[int]],
    diffs: Sequence[WeightDiff | None],
    *,
    adapter: WeightDiff,
    n_tokens: int = 1,
    ends: frozenset[int] = frozenset(),
    seed: int = 0,
) -> list[Signs]:
    """Return what finetunes answer, with what tells how sure that is.

    Args:
        model: the base.
        questions: one question in several wordings; the first one's answers are returned.
        diffs: the finetunes, None: the base itself.
        adapter: that they are asked with.
        n_tokens: most tokens of an answer.
        ends: tokens that end it before.
        seed: of the order in which entries are exchanged.

    Raises:
        UserError: there is no question.
    """
    if not questions:
        raise UserError("There is no question: give at least one wording.")
    said = [ask(model, [question] * len(diffs), diffs, adapter=adapter, n_tokens=n_tokens, ends=ends) for question in questions]
    mixed = [None if diff is None else shuffled(diff, seed=seed + number) for number, diff in enumerate(diffs)]
    without = ask(model, [questions[0]] * len(diffs), mixed, adapter=adapter)
    found = []
    for number, answer in enumerate(said[0]):
        best = answer.first.topk(2).values
        same = [other[number].tokens == answer.tokens for other in said[1:]]
        token = answer.tokens[0]
        drop = (answer.first[token].log() - without[number].first[token].clamp_min(1e-30).log()).item()
        found.append(Signs(answer.tokens, (best[0] - best[1]).item(), sum(same) / len(same) if same else 1.0, drop))
    return found


def shuffled(diff: WeightDiff, *, seed: int) -> WeightDiff:
    """Return a diff of the same norms and ranks that says nothing: what it writes and what it reads in another order."""
    generator, changes = torch.Generator().manual_seed(seed), {}
    for name, change in diff.changes.items():
        if isinstance(change, LowRank):
            up = change.up[torch.randperm(len(change.up), generator=generator)]
            changes[name] = LowRank(up, change.down[:, torch.randperm(change.down.shape[1], generator=generator)])
        else:
            flat = change.delta.flatten()
            changes[name] = Whole(flat[torch.randperm(len(flat), generator=generator)].view_as(change.delta))
    return WeightDiff(changes, diff.base, {**diff.about, "shuffled": True})


class Confidence(NamedTuple):
    """From signs to the probability that an answer is right: 1 / (1 + exp(-(weights . signs + bias)))."""

    weights: list[float]
    """Of margin, agreement and drop."""
    bias: float

    def __call__(self, asked: Sequence[Signs]) -> Float[np.ndarray, " n"]:
        """Return the probability that each answer is right."""
        return torch.from_numpy(_features(asked) @ np.array(self.weights) + self.bias).sigmoid().numpy()


def learn_confidence(known: Sequence[Signs], is_right: Sequence[bool]) -> Confidence:
    """Learn from answers whose truth is known.

    Args:
        known: their signs.
        is_right: whether they were right.

    Raises:
        UserError: all of them were right, or all wrong.
    """
    if len(set(is_right)) < 2:
        raise UserError("Confidence is learned from right and from wrong answers: give finetunes of both.")
    from sklearn.linear_model import LogisticRegression  # takes a while to import, and only learning needs it
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(_features(known))
    fitted = LogisticRegression().fit(scaler.transform(_features(known)), list(is_right))
    weights = fitted.coef_[0] / scaler.scale_
    return Confidence(weights.tolist(), float(fitted.intercept_[0] - weights @ scaler.mean_))


class Calibration(NamedTuple):
    """What is right when answers are kept in the order of confidence."""

    coverage: Float[np.ndarray, " n"]
    """Share of answers that are kept, rising to 1."""
    accuracy: Float[np.ndarray, " n"]
    """Share of these that is right."""
    expected_error: float
    """Mean distance of confidence from accuracy over ten bins, weighted by answers."""

    def at(self, coverage: float) -> float:
        """Return the accuracy where at least this share is kept."""
        return float(self.accuracy[np.searchsorted(self.coverage, coverage - 1e-9)])


def calibration(confidence: Float[np.ndarray, " n"], is_right: Bool[np.ndarray, " n"]) -> Calibration:
    """Return how accuracy falls as more answers are kept.

    Raises:
        UserError: there is no answer.
    """
    if not len(confidence):
        raise UserError("There is no answer to calibrate: ask some finetunes first.")
    order = np.argsort(-confidence, kind="stable")
    n = np.arange(1, len(order) + 1)
    bins = np.clip((confidence * 10).astype(int), 0, 9)
    apart = [abs(confidence[bins == b].mean() - is_right[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return Calibration(n / len(order), is_right[order].cumsum() / n, float(sum(apart)))


def _features(found: Sequence[Signs]) -> Float[np.ndarray, "n 3"]:
    return np.array([[each.margin, each.agreement, each.drop] for each in found], dtype=float)
