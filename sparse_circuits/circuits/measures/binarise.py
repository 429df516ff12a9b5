"""Binarisation: how far a circuit's nodes can be replaced by switches (Gao et al. 2025, appendix C).

Each node's activation x becomes psi_t(x) = t x + (1 - t) step(x), which is x itself at t = 1 and a step of two levels at t = 0:
step(x) is `low` up to a threshold and `high` above it. In between, x is pulled towards the level of its side.
1. Of three thresholds, at 1/4, 1/2 and 3/4 of the node's range on train pairs in the circuit, each with the means of its two
   sides as levels, the one of least squared error is taken.
2. With `n_steps`, the levels are then trained on the task loss by AdamW, while t falls as (1 - progress)^5.
3. The circuit's calibrated loss on other pairs at falling t, all nodes binarised; and at t = 0 with each node alone.
Deviation: training is optional; without it, levels are the best ones for each node by itself. Trained levels are parameters
like any others: with them switches may do better than the circuit did, which shows that switches can do its work, not that its
nodes were switches.

Binarisation stands before the circuit's own taps, which leave kept nodes as they are: so cut edges lose what their readers saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.circuits.activations import prompt_activations
from sparse_circuits.circuits.circuit import Circuit
from sparse_circuits.circuits.margin import answer_margins
from sparse_circuits.circuits.sampler import PairSampler
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node
from sparse_circuits.model.taps import Taps, chain
from sparse_circuits.tasks import PairBatch, task_losses
from sparse_circuits.training.loop import Metrics, fit

QUARTERS = (0.5, 0.25, 0.75)  # the middle first: it is taken where all three part the values alike
SCHEDULE = (1.0, 0.75, 0.5, 0.25, 0.1, 0.0)
BINARY_RISE = 0.01


class Switches(NamedTuple):
    """What the nodes of one site switch between."""

    channels: Int[Tensor, " n_nodes"]
    threshold: Float[Tensor, " n_nodes"]
    low: Float[Tensor, " n_nodes"]
    """Level of activations up to the threshold."""
    high: Float[Tensor, " n_nodes"]
    """Level of activations above it."""


class Binarised(NamedTuple):
    """How a circuit does with its nodes as switches; losses are calibrated, in nats."""

    loss_by_t: dict[float, float]
    """Of all nodes together: 1 is the circuit as it is, 0 switches only."""
    rise_by_node: dict[Node, float]
    """By how much the loss rises with this node alone binarised."""
    switches: dict[str, Switches]
    """By site."""

    @property
    def share_binary(self) -> float:
        """The share of nodes that can be binarised alone for less than 0.01 nats."""
        return sum(rise < BINARY_RISE for rise in self.rise_by_node.values()) / len(self.rise_by_node)


def binarise(
    circuit: Circuit,
    train: PairBatch,
    batch: PairBatch,
    *,
    schedule: Sequence[float] = SCHEDULE,
    n_steps: int = 0,
    n_pairs: int = 32,
    lr: float = 5e-2,
    seed: int = 0,
) -> Binarised:
    """Replace a circuit's nodes by switches, together and one by one, and return its losses.

    Args:
        train: pairs that thresholds and levels are fitted to.
        batch: pairs that losses are measured on.
        schedule: values of t, from 1 (as it is) to 0 (switches).
        n_steps: training steps of the levels; 0: none. A node alone always has its untrained levels.
        n_pairs: pairs in one step.
        lr: learning rate of the levels, in gaps between a node's two.
        seed: of the order of the pairs.

    Raises:
        UserError: a value of t outside [0, 1], or no nodes to binarise.

    Source: Gao et al. 2025, appendix C.
    """
    if not all(0 <= t <= 1 for t in schedule):
        raise UserError(f"schedule is {list(schedule)}: give values of t from 0 to 1.")
    if not circuit.nodes:
        raise UserError("This circuit has no nodes to binarise: extract one that has.")
    switches = fit_switches(circuit, train)
    whole = _loss(circuit, batch, {})
    rises = {node: loss - whole for node, loss in _losses_alone(circuit, batch, switches)}
    if n_steps:
        step = SwitchStep(circuit, switches, train, n_steps=n_steps, lr=lr)
        fit(step, PairSampler(train.n_pairs, n_pairs=n_pairs, seed=seed), n_steps=n_steps)
        switches = step.switches()
    return Binarised({t: _loss(circuit, batch, switch_taps(switches, t=t)) for t in schedule}, rises, switches)


def fit_switches(circuit: Circuit, train: PairBatch) -> dict[str, Switches]:
    """Return the best switch of every node, by site, on the prompts of these pairs."""
    values = prompt_activations(circuit.model, train, circuit.nodes, taps=circuit.taps())
    return {site: _switches(torch.tensor(circuit.nodes[site], device=value.device), value) for site, value in values.items()}


def _switches(channels: Tensor, value: Tensor) -> Switches:
    return Switches(channels, *best_step(value[:, channels]))


def best_step(
    value: Float[Tensor, "n_tokens n_nodes"],
) -> tuple[Float[Tensor, " n_nodes"], Float[Tensor, " n_nodes"], Float[Tensor, " n_nodes"]]:
    """Return threshold, low and high level of the step of least squared error, out of three for each node.

    Thresholds lie at 1/4, 1/2 and 3/4 of the range; levels are the means of either side. A constant node has its value as both.
    """
    least, greatest = value.amin(0), value.amax(0)
    steps = [_step_at(value, least + quarter * (greatest - least)) for quarter in QUARTERS]
    errors = torch.stack([(value - torch.where(value > cut, high, low)).square().sum(0) for cut, low, high in steps])
    best = errors.argmin(0, keepdim=True)
    threshold, low, high = (torch.stack(each).gather(0, best)[0] for each in zip(*steps, strict=True))
    return threshold, low, high


def _step_at(value: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    is_above = value > threshold
    low = value.masked_fill(is_above, 0).sum(0) / (~is_above).sum(0)
    high = value.masked_fill(~is_above, 0).sum(0) / is_above.sum(0)
    return threshold, low, torch.where(is_above.any(0), high, low)


def switch_taps(switches: Mapping[str, Switches], *, t: float) -> Taps:
    """Return taps that put psi_t in the place of these nodes' activations."""

    def tap_of(switch: Switches) -> Callable[[Tensor], Tensor]:
        def tap(value: Tensor) -> Tensor:
            x = value[..., switch.channels]
            step = torch.where(x > switch.threshold, switch.high, switch.low)
            return value.index_copy(-1, switch.channels, torch.lerp(step, x, t).to(value.dtype))

        return tap

    return {site: tap_of(switch) for site, switch in switches.items()}


class SwitchStep:
    """The step that `fit` takes when it trains levels; t falls as (1 - progress)^5."""

    def __init__(self, circuit: Circuit, fitted: Mapping[str, Switches], train: PairBatch, *, n_steps: int, lr: float) -> None:
        self.circuit, self.fitted, self.train, self.n_steps = circuit, fitted, train, n_steps
        # How far each level has moved, in gaps between the node's two: one learning rate for all nodes.
        self.moved = {
            site: torch.zeros(2, len(switch.low), device=switch.low.device).requires_grad_() for site, switch in fitted.items()
        }
        self.optimizer = torch.optim.AdamW(self.moved.values(), lr=lr, weight_decay=0.0)

    def __call__(self, numbers: Int[Tensor, " n_pairs"], *, index: int) -> Metrics:
        """Take one step and return t and the task loss of these train pairs."""
        t = (1 - index / self.n_steps) ** 5
        batch = self.train.select(numbers.to(self.train.last.device))
        loss = _task_loss(self.circuit, batch, switch_taps(self._moved_switches(), t=t))
        # A node may be needed only beside nodes outside the circuit: alone, nothing reads it.
        gradients = torch.autograd.grad(loss, list(self.moved.values()), materialize_grads=True)
        for moved, gradient in zip(self.moved.values(), gradients, strict=True):
            moved.grad = gradient
        self.optimizer.step()
        return {"loss": loss.detach(), "t": t}

    def switches(self) -> dict[str, Switches]:
        """Return the switches with their levels as trained so far."""
        return {site: Switches(*(each.detach() for each in switch)) for site, switch in self._moved_switches().items()}

    def _moved_switches(self) -> dict[str, Switches]:
        moved = {}
        for site, switch in self.fitted.items():
            low, high = torch.stack([switch.low, switch.high]) + self.moved[site] * (switch.high - switch.low)
            moved[site] = switch._replace(low=low, high=high)
        return moved


def _losses_alone(circuit: Circuit, batch: PairBatch, switches: Mapping[str, Switches]) -> Iterator[tuple[Node, float]]:
    for site, switch in switches.items():
        for index, channel in enumerate(switch.channels.tolist()):
            alone = Switches(*(each[index : index + 1] for each in switch))
            yield Node(site, channel), _loss(circuit, batch, switch_taps({site: alone}, t=0.0))


@torch.no_grad()
def _loss(circuit: Circuit, batch: PairBatch, taps: Taps) -> float:
    return _task_loss(circuit, batch, taps).item()


def _task_loss(circuit: Circuit, batch: PairBatch, taps: Taps) -> Float[Tensor, ""]:
    margin = answer_margins(circuit.model, batch, taps=chain(taps, circuit.taps()))
    return task_losses(circuit.calibration(margin)).mean()
