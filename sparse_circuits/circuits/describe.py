"""A circuit as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from sparse_circuits.circuits.card import Card
from sparse_circuits.circuits.edges import nodes_without_links

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
            *(f"  {edge}  {edge.weight:+.3f}" for edge in circuit.edges),
            "residual links",
            *(f"  {link}  {link.weight:+.3f}" for link in residual),
            *(
                f"merged: {each.into} writes for {each.node} (x {each.ratio:.3f}, R2 {each.r_squared:.3f})"
                for each in circuit.merges
            ),
            *(
                [f"the model answers without the circuit through {', '.join(circuit.card.backups)}"]
                if circuit.card.backups
                else []
            ),
            f"nodes without edge or residual link: {', '.join(map(str, loose)) or 'none'}",
        ]
    )


def card_lines(card: Card) -> Iterator[str]:
    """Yield the verdict, and of every check the loss on held-out pairs, its interval and its bound."""
    yield f"  {card.verdict}"
    yield f"  {f'{card.n_pairs} held-out pairs':<16}{'loss':>7}{'95 % interval':>18}{'accuracy':>10}  bound"
    for each in card.checks:
        bound = f"<= {each.at_most:.2f}" if each.at_most is not None else f">= {each.at_least:.2f}" if each.at_least else ""
        mark = "" if each.passes else "  FAILS"
        interval = f"{each.low:.3f} to {each.high:.3f}"
        yield f"  {each.name:<16}{each.loss:>7.3f}{interval:>18}{each.accuracy:>10.3f}  {bound}{mark}"
