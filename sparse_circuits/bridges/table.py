"""Bridges and steering as tables for the console."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from sparse_circuits.bridges.curve import Estimate, SteeringCurves
from sparse_circuits.bridges.evaluate import BridgeScores
from sparse_circuits.bridges.features import NodeFeature


def bridge_table(scores: BridgeScores) -> Table:
    """Return what is left of the dense model's loss behind every crossing."""
    title = (
        f"validation loss in nats: bigram table {scores.bigram_loss:.3f}, dense {scores.dense_loss:.3f},"
        f" sparse {scores.sparse_loss:.3f}"
    )
    table = Table(title=title)
    for name in ("crossing over at", "from", "loss", "recovered", "KL", "NMSE"):
        table.add_column(name, justify="left" if name in ("crossing over at", "from") else "right")
    for place in scores.places:
        name = place.sparse if place.sparse == place.dense else f"{place.sparse}, {place.dense}"
        for start, each in (("dense", place.to_sparse), ("sparse", place.to_dense)):
            table.add_row(name, start, *(f"{value:.3f}" for value in (each.loss, each.recovered, each.kl, each.nmse)))
    for start, each in scores.alternating.items():
        table.add_row("every place", start.removesuffix("_first"), f"{each.loss:.3f}", f"{each.recovered:.3f}", "", "")
    return table


def steering_table(found: SteeringCurves) -> Table:
    """Return how the probability of the counterfactual answer moves, with its intervals, and what it costs elsewhere."""
    table = Table(title=f"{found.task}, steered by {', '.join(found.nodes)} on {found.n_pairs} pairs")
    table.add_column("strength", justify="right")
    for name in found.curves:
        for column in (f"{name}: P(counterfactual)", "of the two answers", "KL elsewhere"):
            table.add_column(column, justify="right")
    for points in zip(*found.curves.values(), strict=True):
        cells = [
            text
            for point in points
            for text in (_interval(point.counterfactual), _interval(point.share), f"{point.side_effect:.3f}")
        ]
        table.add_row(f"{points[0].strength:g}", *cells)
    return table


def _interval(estimate: Estimate) -> str:
    return f"{estimate.mean:.4f} ({estimate.low:.4f} to {estimate.high:.4f})"


def feature_table(features: Sequence[NodeFeature]) -> Table:
    """Return how well dense directions predict the nodes, and the tokens that excite them."""
    table = Table(title="what the nodes are in the dense model")
    for name in ("node", "dense site", "R\u00b2", "tokens"):
        table.add_column(name)
    for each in features:
        tokens = " ".join(repr(token) for token in dict.fromkeys(exciting.token for exciting in each.tokens))
        table.add_row(escape(each.node), each.site, f"{each.r_squared:.2f}", escape(tokens))
    return table
