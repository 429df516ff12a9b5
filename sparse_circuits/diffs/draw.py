"""A pool as a picture: its first two principal components, and a t-SNE map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from sparse_circuits.diffs.pool import Pool, cosine_distances
from sparse_circuits.errors import UserError
from sparse_circuits.run import replacing

PERPLEXITY = 2.0
"""Of small pools (Xu et al. 2025)."""


def draw_map(pool: Pool, path: Path, *, seed: int = 0) -> None:
    """Write the map as a PNG, atomically; finetunes of one label have one colour.

    Raises:
        UserError: there are fewer than four finetunes, or one has no direction.
    """
    from matplotlib.figure import Figure  # takes a while to import, and only pictures need it

    if len(pool.names) < 4:
        raise UserError(f"The pool has {len(pool.names)} finetunes: a map needs four.")
    distances = cosine_distances(pool.vectors)
    unit = (pool.vectors / pool.vectors.norm(dim=1, keepdim=True)).numpy()
    components = PCA(2, random_state=seed).fit(unit)
    perplexity = min(PERPLEXITY, (len(unit) - 1) / 3)
    placed = TSNE(2, metric="precomputed", init="random", perplexity=perplexity, random_state=seed).fit_transform(distances)
    figure = Figure(figsize=(9, 4), layout="constrained")
    share = components.explained_variance_ratio_.sum()
    titles = (f"principal components, {share:.0%} of the variance", "t-SNE of 1 - cosine")
    for axes, points, title in zip(figure.subplots(1, 2), (components.transform(unit), placed), titles, strict=True):
        for label in dict.fromkeys(pool.labels):
            own = points[np.array([each == label for each in pool.labels])]
            axes.scatter(own[:, 0], own[:, 1], s=24, label=label)
        axes.set(title=title, xticks=[], yticks=[])
    axes.legend(fontsize="small")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=150)
