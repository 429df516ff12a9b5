"""Loss and L0 over training, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparse_circuits.run import replacing


def draw_curves(metrics: list[dict[str, Any]], path: Path) -> None:
    """Draw training and validation loss, and L0, against steps, to a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and only wanted here
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, counts = figure.subplots(1, 2)
    for name, label in (("loss", "training"), ("validation_loss", "validation")):
        lines = [line for line in metrics if name in line]
        losses.plot([line["step"] for line in lines], [line[name] for line in lines], label=label)
    losses.set(xlabel="step", ylabel="loss (nats per token)")
    losses.legend()
    lines = [line for line in metrics if "l0" in line]
    counts.plot([line["step"] for line in lines], [line["l0"] for line in lines], color="black")
    counts.set(xlabel="step", ylabel="nonzero weights", yscale="log")
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
