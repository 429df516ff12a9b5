"""What is known of finetunes, for the page: where they lie, and what an adapter makes them say.

pool          {names, labels, norms, nearest: [[place, cosine] of the nearest other one, or null], maps: {title: [[x, y]]},
              clustering: see `Clustering`, or null}, or null
interpreted   dit.json, see `diffs/examine.py`, or null
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparse_circuits.diffs.draw import place
from sparse_circuits.diffs.examine import SCORES_FILE
from sparse_circuits.diffs.pool import POOL_FILE, Pool
from sparse_circuits.errors import UserError
from sparse_circuits.run import read_json


def finetunes_payload(folder: Path) -> dict[str, Any] | None:
    """Return what `embed` and `dit` left in a run folder, or None.

    Raises:
        UserError: a file is damaged.
    """
    pool, scores = folder / POOL_FILE, folder / SCORES_FILE
    if not pool.is_file() and not scores.is_file():
        return None
    return {
        "pool": _pool(Pool.load(pool), folder) if pool.is_file() else None,
        "interpreted": read_json(scores) if scores.is_file() else None,
    }


def _pool(pool: Pool, folder: Path) -> dict[str, Any]:
    clustering = folder / "pool.json"
    return {
        "names": pool.names,
        "labels": pool.labels,
        "norms": pool.vectors.norm(dim=1).tolist(),
        "nearest": [_nearest(pool, number) for number in range(len(pool.names))],
        "maps": _maps(pool),
        "clustering": read_json(clustering) if clustering.is_file() else None,
    }


def _nearest(pool: Pool, number: int) -> tuple[int, float] | None:
    vector = pool.vectors[number]
    others = [each for each in pool.nearest(vector, n=2) if each.name != pool.names[number]] if vector.any() else []
    return (pool.names.index(others[0].name), others[0].cosine) if others else None


def _maps(pool: Pool) -> dict[str, list[list[float]]]:
    try:
        maps = place(pool)
    except UserError:  # too few finetunes, or one that changed nothing: their table is shown without a map
        return {}
    title = f"principal components, {maps.share:.0%} of the variance"
    return {title: maps.components.tolist(), "t-SNE of 1 - cosine": maps.placed.tolist()}
