"""A published circuit, `viz_data.pt`: which nodes were kept, and the prompts and losses that were published with them.

The file has neither mean activations nor masks nor calibration, so a circuit cannot be run from it alone: see replay.py.
Losses in it are sums over the two sides of the task, and are halved here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparse_circuits.circuits.nodes import count_nodes, site_widths
from sparse_circuits.errors import UserError, nearest
from sparse_circuits.interop.pickled import load_safely
from sparse_circuits.model import ModelConfig, Node
from sparse_circuits.tasks import PairBatch, Scoring

PADDING = 0
"""The id behind the prompts, which is a real token, too."""


@dataclass(frozen=True)
class Published:
    """What a published circuit's file says."""

    nodes: dict[str, list[int]]
    """Channels of every site that has any, in firing order."""
    tokens: Tensor
    """The prompts, Int[Tensor, "n_prompts pos"]: those of the one answer, then those of the other; a pair is (i, i + n / 2)."""
    loss: float
    """Of the unpruned model, in nats a side."""
    pruned_loss: float
    """Of the circuit."""
    node_losses: dict[Node, float]
    """Of the circuit without each node."""


def read_viz_data(path: Path, config: ModelConfig) -> Published:
    """Read a published circuit of a model, and check that it is one of this model.

    Args:
        path: a viz_data.pt.
        config: the model's shape.

    Raises:
        UserError: the file is missing, damaged, holds code, lacks a part, or is of another model.
    """
    path = Path(path)
    data = load_safely(path)
    circuit, importances = _part(data, "circuit_data", dict, path), _part(data, "importances", dict, path)
    order = {site: ids for site, ids in circuit.items() if site != "prune_config"}
    ids = {site: _channels(site, value, config, path) for site, value in order.items()}
    if not any(ids.values()):
        raise UserError(f"{path} holds a circuit without nodes: there is nothing to replay.")
    n_nodes = data.get("num_total_nodes")
    if n_nodes is not None and n_nodes != count_nodes(config):
        raise UserError(f"{path} is of a model of {n_nodes} nodes, and this one has {count_nodes(config)}: give its own model.")
    samples = _part(importances, "task_samples", (tuple, list), path)
    tokens = samples[0] if samples else None
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or tokens.is_floating_point() or len(tokens) % 2 or not len(tokens):
        raise UserError(f"{path} has no task_samples of pairs of prompts: download it again.")
    losses = _part(importances, "ch_interv_losses", dict, path)
    return Published(
        nodes={site: ids[site] for site in site_widths(config) if ids.get(site)},
        tokens=tokens.long(),
        loss=_half(importances, "loss", path),
        pruned_loss=_half(importances, "interv_loss", path),
        node_losses={
            Node(site, channel): loss
            for site, channels in ids.items()
            for channel, loss in zip(channels, _losses(losses.get(site), channels, site, path), strict=True)
        },
    )


def prompts_of(published: Published, answers: tuple[int, int]) -> tuple[PairBatch, int]:
    """Return a published circuit's prompts as pairs, and how many tokens at their ends may be padding or real.

    Padding is the id 0, which is a token as well: a prompt ends at its last other id, and both prompts of a pair at the later
    of their two ends.

    Args:
        answers: the token that follows the prompts of the first half, and of the second.
    """
    real = published.tokens != PADDING
    places = torch.arange(published.tokens.shape[1])
    last = torch.where(real, places, 0).amax(1)
    first, second = last.chunk(2)
    n_doubtful = int((first != second).sum())
    ends = torch.maximum(first, second)
    batch = PairBatch(
        tokens=published.tokens[:, : int(ends.max()) + 1],
        last=ends.repeat(2),
        answers=torch.tensor(answers).view(1, 2, 1).expand(len(ends), 2, 1).clone(),
        scoring=Scoring.pair,
    )
    return batch, n_doubtful


def _part(data: Any, key: str, kind: type | tuple[type, ...], path: Path) -> Any:
    if not isinstance(data, Mapping) or not isinstance(data.get(key), kind):
        raise UserError(f"{path} has no {key}: give a viz_data.pt as it was published.")
    return data[key]


def _channels(site: str, ids: Any, config: ModelConfig, path: Path) -> list[int]:
    widths = site_widths(config)
    if site not in widths:
        hint = nearest(str(site), widths)
        raise UserError(f'{path} names a location "{site}"{hint} that this model does not have: give its own model.')
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.ndim != 1:
        raise UserError(f"{path} has no list of channels at {site}: download it again.")
    channels = ids.tolist()
    if len(set(channels)) < len(channels) or any(not 0 <= each < widths[site] for each in channels):
        raise UserError(f"{path} names channels at {site} twice, or beyond its {widths[site]}: give the circuit's own model.")
    return channels


def _half(importances: Mapping[str, Any], key: str, path: Path) -> float:
    """Return a loss, of which the file has the sum over both sides."""
    try:
        return float(importances[key]) / 2
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} has no {key}: give a viz_data.pt as it was published.") from error


def _losses(values: Any, channels: list[int], site: str, path: Path) -> list[float]:
    if not channels:
        return []
    try:
        found = [float(each) / 2 for each in values]
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} has no ch_interv_losses at {site}: download it again.") from error
    if len(found) != len(channels):
        raise UserError(f"{path} has {len(found)} losses for {len(channels)} nodes at {site}: download it again.")
    return found
