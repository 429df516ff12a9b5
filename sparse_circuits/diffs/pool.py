"""A pool of finetunes by their vectors: how well domains cluster, how sure that is, and who is nearest to whom.

Distances are 1 - cosine. The silhouette says of each finetune how much nearer its own domain is than the next; its interval is
over finetunes, its p-value over ways of labelling them.

Source: Xu et al. 2025, section 5 (silhouette, domains of one finetune left out). Intervals, p-values, nearest neighbours and
norms are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from sparse_circuits.errors import UserError
from sparse_circuits.model.store import read_tensors, write_tensors

POOL_FILE = "pool.safetensors"
N_PERMUTATIONS, N_BOOTSTRAP = 1000, 1000


class Clustering(NamedTuple):
    """How well domains cluster."""

    silhouette: float
    """Mean over finetunes, from -1 to 1."""
    low: float
    high: float
    """Ends of its 95 % bootstrap interval over finetunes."""
    p_value: float
    """Share of labellings at random whose silhouette is at least as high."""
    nearest: float
    """Share of finetunes whose nearest other one is of their domain."""
    norm: float
    """Mean length of the vectors."""
    n_models: int
    """Finetunes that were counted: domains of one are left out."""


def clustering(vectors: Float[Tensor, "n_models width"], labels: Sequence[str], *, seed: int = 0) -> Clustering:
    """Return how well vectors cluster by their labels.

    Raises:
        UserError: fewer than two domains have two finetunes, or a vector is zero.
    """
    counts = Counter(labels)
    kept = [number for number, label in enumerate(labels) if counts[label] > 1]
    own = np.array([labels[number] for number in kept])
    if len(set(own)) < 2:
        raise UserError("Clusters need two domains of two finetunes each at least: give more finetunes, or other labels.")
    from sklearn.metrics import silhouette_samples  # takes a while to import, and only pools need it

    distances = cosine_distances(vectors[kept])
    rng = np.random.default_rng(seed)
    each = silhouette_samples(distances, own, metric="precomputed")
    shuffled = [silhouette_samples(distances, rng.permutation(own), metric="precomputed").mean() for _ in range(N_PERMUTATIONS)]
    means = each[rng.integers(len(each), size=(N_BOOTSTRAP, len(each)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    p_value = (1 + sum(value >= each.mean() for value in shuffled)) / (1 + N_PERMUTATIONS)
    others = distances + np.diag(np.full(len(kept), np.inf))
    nearest = (own[others.argmin(1)] == own).mean()
    norm = vectors[kept].double().norm(dim=1).mean().item()
    return Clustering(float(each.mean()), float(low), float(high), p_value, float(nearest), norm, len(kept))


def cosine_distances(vectors: Float[Tensor, "n_models width"]) -> Float[np.ndarray, "n_models n_models"]:
    """Return 1 - cosine between all vectors.

    Raises:
        UserError: one of them is zero, and has no direction.
    """
    vectors = vectors.double()
    norms = vectors.norm(dim=1, keepdim=True)
    if zero := (norms == 0).flatten().nonzero().flatten().tolist():
        raise UserError(f"Vector number {zero[0]} is zero, as of a finetune that changed nothing: leave it out.")
    unit = vectors / norms
    distances = (1 - unit @ unit.T).clamp_min(0).numpy()
    np.fill_diagonal(distances, 0.0)
    return distances


class Neighbour(NamedTuple):
    """A finetune that is near."""

    name: str
    cosine: float


@dataclass(frozen=True)
class Pool:
    """Finetunes of one base by name; it grows, and nothing that is in it changes."""

    names: list[str]
    vectors: Float[Tensor, "n_models width"]
    labels: list[str]
    about: dict[str, object]
    """How the vectors were made: base, probes, site, token."""

    def nearest(self, vector: Float[Tensor, " width"], *, n: int = 5) -> list[Neighbour]:
        """Return the finetunes nearest to a vector, the nearest first; those whose vector is zero are near to none.

        Raises:
            UserError: the pool is empty, the vector is zero, or it has another width.
        """
        if not self.names:
            raise UserError("The pool is empty: add finetunes before looking for a neighbour.")
        self._check_width(vector)
        if not vector.any():
            raise UserError("The vector is zero, as of a finetune that changed nothing: it is near to none.")
        cosines = normalize(self.vectors.double(), dim=1) @ normalize(vector.double(), dim=0)
        near_first = cosines.argsort(descending=True, stable=True).tolist()
        with_direction = [place for place in near_first if self.vectors[place].any()]
        return [Neighbour(self.names[place], cosines[place].item()) for place in with_direction[:n]]

    def add(self, name: str, vector: Float[Tensor, " width"], *, label: str) -> Pool:
        """Return the pool with one more finetune.

        Raises:
            UserError: the name is taken, or the vector has another width.
        """
        if name in self.names:
            raise UserError(f'The pool has a finetune "{name}" already: give another name.')
        if self.names:
            self._check_width(vector)
        vectors = torch.cat([self.vectors, vector.unsqueeze(0)]) if self.names else vector.unsqueeze(0)
        return Pool([*self.names, name], vectors, [*self.labels, label], self.about)

    def _check_width(self, vector: Tensor) -> None:
        own, other = self.vectors.shape[1], vector.shape[0]
        if own != other:
            raise UserError(f"The vector has {other} entries and the pool's have {own}: embed it as the pool was.")

    def save(self, path: Path) -> None:
        """Write the pool to one file, atomically."""
        metadata = {"names": self.names, "labels": self.labels, "about": self.about}
        write_tensors(path, {"vectors": self.vectors}, kind="pool", metadata=metadata)

    @classmethod
    def load(cls, path: Path) -> Pool:
        """Read a pool.

        Raises:
            UserError: the file is missing, damaged, or no pool.
        """
        tensors, metadata = read_tensors(path, kind="pool")
        return cls(metadata["names"], tensors["vectors"], metadata["labels"], metadata["about"])
