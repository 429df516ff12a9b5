"""Necessity: what ablating a circuit's nodes does to the whole model (Gao et al. 2025, "inverse pruning", figure 32).

- The curve: a growing share of the circuit's nodes ablated, in random order and by their own effects.
- Backups: where the model still answers without its circuit, the nodes outside that it answers with, by name.
  1. In the model without the circuit, a live node's attribution is gradient x (activation - mean) of the right answer's
     margin: to first order, what ablating it as well would cost.
  2. The few largest are ablated as well, attributions are taken anew, and so on until the loss reaches a bound.
  3. Back from the last pick, each one that can stand again with the loss still at the bound does, until none can.
  As many random live nodes ablated beside the circuit, at the same sites, are the control.
Nothing is calibrated: the model needs no calibration. Nodes are ablated as the circuit's were: to its means, at every position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from sparse_circuits.circuits.ablate import ablation_taps
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.discovery.baselines import attributions
from sparse_circuits.circuits.evidence.faithfulness import NECESSARY, live_nodes, random_nodes
from sparse_circuits.circuits.margin import answer_margins, score
from sparse_circuits.circuits.nodes import count_nodes, mark, site_widths
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.model import ModelConfig, Node
from sparse_circuits.tasks import PairBatch

SHARES = tuple(tenth / 10 for tenth in range(11))


class NecessityCurve(NamedTuple):
    """The whole model's loss, in nats, against the share of the circuit's nodes that are ablated."""

    shares: list[float]
    random: list[float]
    """Loss at each share, nodes in random order: mean over draws."""
    by_effect: list[float]
    """Loss at each share, nodes of the largest effect first."""
    effects: dict[Node, float]
    """By how much ablating each node alone raises the loss, largest first."""


class Backups(NamedTuple):
    """The nodes outside a circuit that answer in its place."""

    nodes: list[Node]
    """In the order they were picked; ablated together with the circuit."""
    loss: float
    """With the circuit and these ablated, in nats."""
    loss_without_circuit: float
    """With only the circuit ablated."""
    random_loss: float
    """With the circuit and as many random live nodes of the same sites ablated: mean over draws."""
    is_reached: bool
    """Whether `loss` reaches the bound; if not, the nodes are all that were tried."""


@torch.no_grad()
def necessity_curve(
    circuit: Circuit, batch: PairBatch, *, shares: Sequence[float] = SHARES, n_draws: int = 8, seed: int = 0
) -> NecessityCurve:
    """Return the whole model's loss with a growing share of the circuit's nodes ablated.

    Args:
        batch: pairs that the circuit was not found with.
        shares: of the circuit's nodes, from 0 to 1; rounded to whole nodes.
        n_draws: random orders, at least 1.
        seed: of these orders.

    Raises:
        UserError: a share or the number of draws is out of range.

    Source: Gao et al. 2025, figure 32.
    """
    if n_draws < 1 or not all(0 <= share <= 1 for share in shares):
        raise UserError(f"n_draws is {n_draws}, shares are {list(shares)}: give at least 1, and shares from 0 to 1.")
    own = _indices(mark(circuit.nodes, circuit.model.config))
    counts = [round(share * len(own)) for share in shares]
    whole = _loss_without(circuit, batch, [])
    effects = {index: _loss_without(circuit, batch, [index]) - whole for index in own}
    ranked = sorted(own, key=lambda index: -effects[index])

    def curve(order: list[int]) -> list[float]:
        return [_loss_without(circuit, batch, order[:count]) for count in counts]

    generator = torch.Generator().manual_seed(seed)
    orders = [[own[each] for each in torch.randperm(len(own), generator=generator)] for _ in range(n_draws)]
    random = [sum(losses) / n_draws for losses in zip(*map(curve, orders), strict=True)]
    names = _names(circuit.model.config)
    return NecessityCurve(list(shares), random, curve(ranked), {names[index]: effects[index] for index in ranked})


@torch.no_grad()
def find_backups(
    circuit: Circuit,
    batch: PairBatch,
    *,
    bound: float = NECESSARY,
    n_most: int = 64,
    n_at_once: int = 4,
    n_draws: int = 10,
    seed: int = 0,
) -> Backups:
    """Name the nodes outside the circuit that let the whole model answer without it.

    Args:
        batch: pairs that the circuit was not found with.
        bound: the loss from which on the model no longer answers, in nats; ln 2 is chance.
        n_most: nodes to pick at most, before superfluous ones are put back.
        n_at_once: nodes to pick on the same attributions.
        n_draws: random sets of the control, at least 1.
        seed: of these draws.

    Returns:
        No nodes where the circuit's own ablation reaches the bound.

    Raises:
        UserError: a count below 1.
    """
    check_counts(locals(), "n_most", "n_at_once", "n_draws")
    kept = mark(circuit.nodes, circuit.model.config)
    own, outside = _indices(kept), live_nodes(circuit.model, batch) & ~kept

    def loss_without(more: list[int]) -> float:
        return _loss_without(circuit, batch, own + more)

    def reaches(more: list[int]) -> bool:
        return loss_without(more) >= bound

    def candidates(picks: list[int]) -> list[int]:
        return _most_attributed(circuit, batch, own + picks, outside)

    picks = _pick(reaches, candidates, n_most=n_most, n_at_once=n_at_once)
    is_reached = reaches(picks)
    if is_reached:
        picks = without_superfluous(picks, reaches)
    like = _marked(picks, circuit.model.config)
    generator = torch.Generator().manual_seed(seed)
    random = [_indices(random_nodes(like, outside, circuit.model.config, generator=generator)) for _ in range(n_draws)]
    names = _names(circuit.model.config)
    return Backups(
        nodes=[names[index] for index in picks],
        loss=loss_without(picks),
        loss_without_circuit=loss_without([]),
        random_loss=sum(map(loss_without, random)) / n_draws,
        is_reached=is_reached,
    )


def _pick(
    reaches: Callable[[list[int]], bool], candidates: Callable[[list[int]], list[int]], *, n_most: int, n_at_once: int
) -> list[int]:
    """Return the first candidates, those beside these, and so on, until they reach the bound or there are no more."""
    picks: list[int] = []
    while len(picks) < n_most and not reaches(picks) and (more := candidates(picks)):
        picks += more[: min(n_at_once, n_most - len(picks))]
    return picks


def _most_attributed(circuit: Circuit, batch: PairBatch, ablated: list[int], allowed: Bool[Tensor, " node"]) -> list[int]:
    """Return the allowed nodes whose ablation, beside those ablated already, would cost the right answer; the most first."""
    kept = ~_marked(ablated, circuit.model.config)
    cost = attributions(circuit.model, batch, circuit.means, kept.float()).masked_fill(~(kept & allowed), 0)
    return [index for index in cost.argsort(descending=True).tolist() if cost[index] > 0]


def without_superfluous(picks: list[int], reaches: Callable[[list[int]], bool]) -> list[int]:
    """Return picks that reach the bound and of which no single one can be left out, dropping from the last one back.

    Args:
        picks: that reach it.
        reaches: whether some of the picks do.
    """
    left = picks
    for pick in reversed(picks):
        fewer = [each for each in left if each != pick]
        left = fewer if reaches(fewer) else left
    return picks if left == picks else without_superfluous(left, reaches)


def _loss_without(circuit: Circuit, batch: PairBatch, ablated: Sequence[int]) -> float:
    config = circuit.model.config
    taps = ablation_taps(~_marked(ablated, config), circuit.means, config)
    return score(answer_margins(circuit.model, batch, taps=taps)).loss


def _marked(indices: Sequence[int], config: ModelConfig) -> Bool[Tensor, " node"]:
    row = torch.zeros(count_nodes(config), dtype=torch.bool)
    row[list(indices)] = True
    return row


def _indices(row: Bool[Tensor, " node"]) -> list[int]:
    return row.nonzero().squeeze(1).tolist()


def _names(config: ModelConfig) -> list[Node]:
    return [Node(site, channel) for site, width in site_widths(config).items() for channel in range(width)]
