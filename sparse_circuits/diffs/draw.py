"""A pool as a map: its first two principal components, and a t-SNE map; as points and as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from sparse_circuits.diffs.pool import Pool, cosine_distances
from sparse_circuits.errors import UserError
from sparse_circuits.run import replacing

PERPLEXITY = 2.0
"""Of small pools (Xu et al. 2025)."""


class Maps(NamedTuple):
    """Where finetunes lie in two dimensions."""

    components: Float[np.ndarray, "n_models 2"]
    """Of the vectors, each of length 1."""
    share: float
    """Of their variance that the two components hold."""
    placed: Float[np.ndarray, "n_models 2"]
    """By t-SNE of 1 - cosine."""


def place(pool: Pool, *, seed: int = 0) -> Maps:
    """Return the maps of a pool.

    Raises:
        UserError: there are fewer than four finetunes, or one has no direction.
    """
    if len(pool.names) < 4:
        raise UserError(f"The pool has {len(pool.names)} finetunes: a map needs four.")
    from sklearn.decomposition import PCA  # takes a while to import, and only maps need it
    from sklearn.manifold import TSNE

    distances = cosine_distances(pool.vectors)
    unit = (pool.vectors / pool.vectors.norm(dim=1, keepdim=True)).numpy()
    components = PCA(2, random_state=seed).fit(unit)
    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    placed = TSNE(2, metric="precomputed", init="random", perplexity=perplexity, random_state=seed).fit_transform(distances)
    return Maps(components.transform(unit), float(components.explained_variance_ratio_.sum()), placed)


def draw_map(pool: Pool, path: Path, *, seed: int = 0) -> None:
    """Write the maps as a PNG, atomically; finetunes of one label have one colour. Raises as `place` does."""
    from matplotlib.figure import Figure  # takes a while to import, and only pictures need it

    maps = place(pool, seed=seed)
    figure = Figure(figsize=(9, 4), layout="constrained")
    titles = (f"principal components, {maps.share:.0%} of the variance", "t-SNE of 1 - cosine")
    for axes, points, title in zip(figure.subplots(1, 2), (maps.components, maps.placed), titles, strict=True):
        for label in dict.fromkeys(pool.labels):
            own = points[np.array([each == label for each in pool.labels])]
            axes.scatter(own[:, 0], own[:, 1], s=24, label=label)
        axes.set(title=title, xticks=[], yticks=[])
    axes.legend(fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
