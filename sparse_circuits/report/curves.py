"""Training metrics as columns, thin enough for a page.

    training    {step, loss, l0, lr, gradient_rms}: columns of equal length, at most 1,000 points, evenly picked
    validation  {step, loss}
    tasks       {task: [loss at every evaluation]}

Steps are optimizer steps, losses are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

N_POINTS = 1000
TRAINING = ("step", "loss", "l0", "lr", "gradient_rms")


def training_curves(metrics: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the curves of a run's metrics, or None when there are none yet."""
    training = _thin([line for line in metrics if "loss" in line])
    evaluations = _thin([line for line in metrics if "validation_loss" in line])
    if not training and not evaluations:
        return None
    return {
        "training": {name: [line.get(name) for line in training] for name in TRAINING},
        "validation": {
            "step": [line["step"] for line in evaluations],
            "loss": [line["validation_loss"] for line in evaluations],
        },
        "tasks": _task_losses(evaluations),
    }


def _task_losses(evaluations: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    keys = {key: None for line in evaluations for key in line if key.startswith("tasks/") and key.endswith("/loss")}
    return {key.split("/")[1]: [line[key] for line in evaluations if key in line] for key in keys}


def _thin(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep the first and the last line and evenly spaced ones between."""
    if len(lines) <= N_POINTS:
        return list(lines)
    return [lines[i * (len(lines) - 1) // (N_POINTS - 1)] for i in range(N_POINTS)]
