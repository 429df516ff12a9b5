"""How alike two sets of activations are."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize


def correlation(first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"]) -> float | None:
    """Return Pearson's correlation over all entries; None where one of the two is constant."""
    a, b = (each.double() - each.double().mean() for each in (first, second))
    norms = (a.norm() * b.norm()).item()
    return (a * b).sum().item() / norms if norms > 0 else None


def similarities(
    first: Float[Tensor, "n_tokens n_first"], second: Float[Tensor, "n_tokens n_second"]
) -> Float[Tensor, "n_first n_second"]:
    """Return |correlation| over tokens of every channel of the first with every one of the second; 0 where one is constant."""
    first, second = (normalize((each - each.mean(0)) * varies(each), dim=0) for each in (first.double(), second.double()))
    return (first.T @ second).abs()


def varies(values: Float[Tensor, "n_tokens width"]) -> Bool[Tensor, " width"]:
    """Return which channels are not the same at every token."""
    return (values != values[0]).any(0)
