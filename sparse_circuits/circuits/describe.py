"""A circuit as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sparse_circuits.circuits.edges import nodes_without_links
from sparse_circuits.circuits.faithfulness import Card

if TYPE_CHECKING:
    from sparse_circuits.circuits.circuit import Circuit


def describe(circuit: Circuit) -> str:
    """Return numbers, nodes by site, edges with their weights, and residual links, a line each."""
    residual = circuit.residual_links()
    loose = nodes_without_links(circuit.nodes, [*circuit.edges, *residual])
    return "\n".join(
        [
            f"{circuit.task.name}: {circuit.task.summary}",
            f"model {circuit.model_hash[:12]}, {circuit.card.n_nodes} nodes, {circuit.card.n_edges} edges",
            "",
            *card_lines(circuit.card),
            "",
            "nodes",
            *(f"  {site}  {' '.join(map(str, channels))}" for site, channels in circuit.nodes.items()),
            "edges",
            *(f"  {edge.source} -> {edge.target}  {edge.weight:+.3f}" for edge in circuit.edges),
            "residual links",
            *(f"  {link.source} -> {link.target}  {link.weight:+.3f}" for link in residual),
            f"nodes without edge or residual link: {', '.join(map(str, loose)) or 'none'}",
        ]
    )


def card_lines(card: Card) -> Iterator[str]:
    """Yield the card's rows: what was kept or ablated, loss and accuracy on held-out pairs."""
    rows = {
        "whole model": card.model,
        "circuit alone": card.circuit,
        "circuit alone, not calibrated": card.circuit_raw,
        "everything ablated": card.ablated,
        "only the circuit ablated": card.necessity,
        f"best of {card.n_random} random circuits": card.random,
        "the same, each calibrated for itself": card.random_calibrated,
        f"random outside nodes ablated, {card.n_outside} draws": card.outside,
    }
    yield f"  {f'{card.n_pairs} held-out pairs':<42}{'loss':>7}{'accuracy':>10}"
    for name, score in rows.items():
        yield f"  {name:<42}{score.loss:>7.3f}{score.accuracy:>10.3f}"
