"""How well a bridge carries: errors and divergences at every place, and what is left of the dense model's loss behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.hybrid import alternate, into_dense, into_sparse, observe
from sparse_circuits.bridges.losses import divergence, errors
from sparse_circuits.model.dense import Dense
from sparse_circuits.model.transformer import Transformer
from sparse_circuits.run import Autocast


@dataclass(frozen=True)
class Measured:
    """A pass that crosses over, in nats."""

    loss: float
    """Of the next token."""
    recovered: float
    """Share of the dense model's improvement over the bigram table that is left."""
    kl: float | None = None
    """From the dense model's answers; None: not measured."""
    nmse: float | None = None
    """Of the map that it crosses by."""


@dataclass(frozen=True)
class PlaceScores:
    """One place of a bridge."""

    sparse: str
    """Site of the sparse model."""
    dense: str
    """Site of the dense model."""
    to_sparse: Measured
    """Dense up to here, sparse from here on."""
    to_dense: Measured
    """Sparse up to here, dense from here on."""


@dataclass(frozen=True)
class BridgeScores:
    """What a bridge reaches on validation text."""

    n_tokens: int
    bigram_loss: float
    """Of a counted bigram table, in nats."""
    dense_loss: float
    sparse_loss: float
    places: list[PlaceScores]
    alternating: dict[str, Measured]
    """Passes that cross over at every place, beginning in the dense or in the sparse model."""


@torch.no_grad()
def evaluate_bridge(
    sparse: Transformer,
    dense: Dense,
    bridge: Bridge,
    batches: Iterable[Int[Tensor, "batch pos_plus_one"]],
    *,
    bigram_loss: float,
    autocast: Autocast,
) -> BridgeScores:
    """Measure a bridge on validation text.

    Args:
        bigram_loss: of the counted bigram table on the same text, in nats.
    """
    sums: Counter[str] = Counter()
    device, n_tokens = sparse.embed.weight.device, 0
    for batch in batches:
        with autocast():
            said = _of_batch(sparse, dense, bridge, batch.to(device))
        n_tokens += batch[:, 1:].numel()
        for name, value in said.items():
            sums[name] += value * batch[:, 1:].numel()
    means = {name: value / n_tokens for name, value in sums.items()}

    def measured(name: str) -> Measured:
        recovered = (bigram_loss - means[f"{name}/loss"]) / (bigram_loss - means["dense/loss"])
        return Measured(means[f"{name}/loss"], recovered, means.get(f"{name}/kl"), means.get(f"{name}/nmse"))

    places = [
        PlaceScores(crossing.sparse, crossing.dense, measured(f"{place}/to_sparse"), measured(f"{place}/to_dense"))
        for place, crossing in enumerate(bridge.crossings)
    ]
    alternating = {name: measured(name) for name in ("dense_first", "sparse_first")}
    return BridgeScores(n_tokens, bigram_loss, means["dense/loss"], means["sparse/loss"], places, alternating)


def _of_batch(sparse: Transformer, dense: Dense, bridge: Bridge, batch: Int[Tensor, "batch pos_plus_one"]) -> dict[str, float]:
    """Return every measure of one batch, by name."""
    tokens, targets = batch[:, :-1], batch[:, 1:]
    of_dense = observe(dense, tokens, [crossing.dense for crossing in bridge.crossings])
    of_sparse = observe(sparse, tokens, [crossing.sparse for crossing in bridge.crossings])
    answers = log_softmax(of_dense.logits, dim=-1)
    found = {"dense/loss": _loss(of_dense.logits, targets), "sparse/loss": _loss(of_sparse.logits, targets)}
    for place in range(len(bridge.crossings)):
        both = errors(bridge, place, of_sparse.streams[place], of_dense.streams[place]).tolist()
        hybrids = {
            "to_sparse": into_sparse(sparse, bridge, of_dense.streams, [place], tokens=tokens),
            "to_dense": into_dense(dense, bridge, of_sparse.streams, [place], tokens=tokens),
        }
        for (name, logits), error in zip(hybrids.items(), both, strict=True):
            found[f"{place}/{name}/loss"] = _loss(logits[0], targets)
            found[f"{place}/{name}/kl"] = divergence(logits, answers).item()
            found[f"{place}/{name}/nmse"] = error
    for name, dense_first in (("dense_first", True), ("sparse_first", False)):
        found[f"{name}/loss"] = _loss(alternate(sparse, dense, bridge, tokens=tokens, dense_first=dense_first), targets)
    return found


def _loss(logits: Float[Tensor, "batch pos d_vocab"], targets: Int[Tensor, "batch pos"]) -> float:
    return cross_entropy(logits.flatten(0, 1), targets.flatten().long()).item()
