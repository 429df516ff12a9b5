"""Draw the figures of a study from its results (Gao et al. 2025, figures 2, 3, 10, 31, 32, 34), as far as there are any.

python -m experiments.figures
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any

from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cells import RESULTS, Cells
from experiments.sizes import LEARNED, TARGETS

FIGURES = Path(__file__).parent / "figures"
Rows = Sequence[dict[str, Any]]


def edges_by_target(rows: Rows) -> tuple[list[float], list[float]]:
    """Return the targets that every task reaches with some seed, and the geometric mean there: over seeds, then tasks."""
    tasks = dict.fromkeys(row["task"] for row in rows)
    means: dict[float, float] = {}
    for target in TARGETS:
        sizes = [[row["sizes"][str(target)] for row in rows if row["task"] == task] for task in tasks]
        reached = [[max(1, size[1]) for size in each if size] for each in sizes]
        if reached and all(reached):
            means[target] = geometric_mean(map(geometric_mean, reached))
    return list(means), list(means.values())


def draw_sizes(axes: Axes, rows: Rows, series: dict[str, Callable[[dict[str, Any]], bool]]) -> None:
    """Draw circuit size against target loss, one line a series."""
    for name, among in series.items():
        targets, edges = edges_by_target([row for row in rows if among(row)])
        axes.plot(targets, edges, marker="o", label=name)
    axes.set(xlabel="target loss (nats)", ylabel="edges, geometric mean", xscale="log", yscale="log")
    label_x(axes, TARGETS)
    axes.legend()


def label_x(axes: Axes, values: Sequence[float]) -> None:
    """Label a logarithmic axis at these values alone."""
    axes.xaxis.minorticks_off()
    axes.set_xticks(values, labels=[f"{value:,}" for value in values])


def figure_2(axes: Axes, rows: Rows) -> None:
    """Draw circuit size against target loss in a sparse and a dense model."""
    series = {name: lambda row, name=name: (row["model"], row["ranking"]) == (name, LEARNED) for name in ("sparse", "dense")}
    draw_sizes(axes, rows, series)


def figure_31(axes: Axes, rows: Rows) -> None:
    """Draw circuit size against target loss by ranking, in the sparse model."""
    sparse = [row for row in rows if row["model"] == "sparse"]
    rankings = dict.fromkeys(row["ranking"] for row in sparse)
    draw_sizes(axes, sparse, {name: lambda row, name=name: row["ranking"] == name for name in rankings})


def by_cell(rows: Rows) -> dict[tuple[int, int], tuple[dict[str, Any], list[float]]]:
    """Return, by width and L0, the model's row and the edges among the nodes of the tasks that all the grid's models know.

    One number a task: the geometric mean over its seeds.
    """
    models = {(row["width"], row["l0"]): row for row in rows if row["kind"] == "model"}
    edges: dict[tuple[int, int], dict[str, list[int]]] = {key: {} for key in models}
    for row in rows:
        if row["kind"] == "nodes" and "n_edges" in row:
            edges[row["width"], row["l0"]].setdefault(row["task"], []).append(max(1, row["n_edges"]))
    shared = sorted(set.intersection(*map(set, edges.values()))) if edges else []
    return {key: (models[key], [geometric_mean(edges[key][task]) for task in shared]) for key in models}


def figure_3(axes: Axes, rows: Rows) -> None:
    """Draw the frontier: circuit size against validation loss, one line a width, L0 falling along it."""
    cells = by_cell(rows)
    for width in sorted({width for width, _ in cells}):
        keys = sorted(key for key in cells if key[0] == width and cells[key][1])
        losses = [cells[key][0]["validation_loss"] for key in keys]
        axes.plot(losses, [geometric_mean(cells[key][1]) for key in keys], marker="o", label=f"width {width}")
        for key, loss in zip(keys, losses, strict=True):
            axes.annotate(f"{key[1]:,}", (loss, geometric_mean(cells[key][1])), fontsize=7)
    axes.set(xlabel="validation loss (nats)", ylabel="edges, geometric mean", yscale="log")
    axes.legend()


def figure_10(axes: Axes, rows: Rows) -> None:
    """Draw the kurtosis of the final residual stream against L0."""
    models = sorted((row for row in rows if row["kind"] == "model"), key=lambda row: row["l0"])
    for width in sorted({row["width"] for row in models}):
        own = [row for row in models if row["width"] == width]
        axes.plot([row["l0"] for row in own], [row["kurtosis"] for row in own], marker="o", label=f"width {width}")
    axes.set(xlabel="L0", ylabel="excess kurtosis of the final residual stream", xscale="log")
    label_x(axes, sorted({row["l0"] for row in models}))
    axes.legend()


def figure_32(axes: Axes, rows: Rows) -> None:
    """Draw the whole model's loss against the share of the circuit's nodes that are ablated: mean over circuits."""
    for order, name in (("random", "in random order"), ("by_effect", "largest effect first")):
        axes.plot(rows[0]["shares"], [fmean(losses) for losses in zip(*(row[order] for row in rows), strict=True)], label=name)
    axes.axhline(fmean(row["outside"] for row in rows), linestyle=":", label="as many nodes outside the circuit")
    axes.axhline(log(2), linestyle="--", color="grey", label="chance")
    axes.set(xlabel="share of the circuit's nodes ablated", ylabel="loss of the whole model (nats)")
    axes.legend()


def figure_34(axes: Axes, rows: Rows) -> None:
    """Draw the circuits' losses with the rest at random activations against those with it at its mean."""
    for row in rows:
        place = row["alone"], row["resample"]
        axes.scatter(*place, color="C0")
        axes.annotate(row["circuit"].split("-")[0], place, fontsize=6)
    axes.set(xlabel="loss, rest at its mean (nats)", ylabel="loss, rest resampled (nats)")


def main() -> None:
    """Draw every figure whose cells are there."""
    FIGURES.mkdir(exist_ok=True)
    rcParams["svg.hashsalt"] = "the same cells, the same file"
    drawings = {"sizes": [figure_2, figure_31], "grid": [figure_3, figure_10], "measures": [figure_32, figure_34]}
    for study, draws in drawings.items():
        rows = Cells(RESULTS / f"{study}.jsonl").rows
        for draw in draws if rows else ():
            figure = Figure(figsize=(5, 3.6), layout="constrained")
            draw(figure.subplots(), rows)
            path = FIGURES / f"{draw.__name__}.svg"
            figure.savefig(path, metadata={"Date": None})
            print(path)


if __name__ == "__main__":
    main()
