"""Bridges to dense models, and steering through them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from sparse_circuits.bridges import BridgeScores
from sparse_circuits.bridges.curve import SteeringCurves, draw_steering, steering_curves
from sparse_circuits.bridges.features import node_features
from sparse_circuits.bridges.load import load_bridged
from sparse_circuits.bridges.narrow import task_family
from sparse_circuits.bridges.strongest import strongest_nodes
from sparse_circuits.bridges.table import bridge_table, feature_table, steering_table
from sparse_circuits.bridges.train import train_bridge
from sparse_circuits.circuits import Circuit
from sparse_circuits.conf.verbs import BridgeVerb, SteerVerb
from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.model import Node
from sparse_circuits.plain import to_plain
from sparse_circuits.run import rank, write_json
from sparse_circuits.subject import circuit_path, subject_of, validation_rows
from sparse_circuits.tasks import Task, encode_pairs
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.export import Trained
from sparse_circuits.walk.tasks import find_tasks


def bridge(config: BridgeVerb, console: Console) -> BridgeScores:
    """Train a bridge into its run folder, and print what it carries."""
    if not config.dense:
        raise UserError("Say what to bridge to: dense=RUN_FOLDER, or a folder or hub name of Hugging Face's.")
    settings = {name: getattr(config, name) for name in TrainConfig.__dataclass_fields__}
    if config.task_family:
        settings["data"] = task_family(config.data, find_tasks(config.task_family), config.run)
    start = None
    if config.checkpoint:
        subject = subject_of(config.run, config.checkpoint)
        start = Trained(subject.model, subject.tokenizer)
    _, scores = train_bridge(
        TrainConfig(**settings),
        config.run,
        dense=config.dense,
        bridge=config.bridge,
        start=start,
        resume=config.resume,
        console=console if rank() == 0 else None,
    )
    if rank() == 0:
        console.print(bridge_table(scores))
    return scores


def steer(config: SteerVerb, console: Console) -> SteeringCurves:
    """Steer the dense model of a bridge, and print and keep the curves."""
    if config.n_strongest is not None:
        check_counts(vars(config), "n_strongest", of="")
        if config.nodes:
            raise UserError("Give nodes or n_strongest, not both: the one names nodes, the other chooses them.")
    bridged, (task,) = load_bridged(config.run), find_tasks([config.task])
    model, settings = bridged.sparse, config.steer
    pairs = partial(
        encode_pairs, task, bridged.tokenizer, n_pairs=settings.n_pairs, seed=settings.seed, max_tokens=model.config.n_ctx
    )
    nodes = [Node.parse(node) for node in config.nodes]
    if not nodes and config.n_strongest is None:
        nodes = circuit_inputs(config.run, task)
    rows = validation_rows(config.run, n_tokens=settings.n_reference_tokens, n_ctx=model.config.n_ctx)
    if config.n_strongest is not None:
        nodes = strongest_nodes(bridged, pairs(split=Split.validation), rows, n_nodes=config.n_strongest)
    batch = pairs(split=Split.held_out)
    found = steering_curves(bridged, nodes, batch, rows, task=task.name, config=settings)
    features = node_features(bridged, nodes, rows)
    console.print(steering_table(found))
    console.print(feature_table(features))
    if any(not 0 <= strength <= 1 for strength in settings.strengths):
        console.print("[dim]Strengths below 0 or above 1 push further than the other prompt does.[/dim]")
    path = config.run / "steering" / f"{task.name}.json"
    write_json(path, {**to_plain(found), "features": to_plain(features)})
    draw_steering(found, path.with_suffix(".png"))
    console.print(f"curves: {path}, {path.with_suffix('.png')}", soft_wrap=True, markup=False)
    return found


def circuit_inputs(run: Path, task: Task) -> list[Node]:
    """Return the nodes of a run's circuit that sublayers read, which bridges lead from.

    Raises:
        UserError: the run has no circuit of the task, or it has no such node.
    """
    path = circuit_path(run, task.name)
    if not path.exists():
        raise UserError(
            f"{run} holds no circuit of {task.name}: extract it (sparse-circuits extract run={run} task={task.name}), or give"
            " nodes."
        )
    circuit = Circuit.load(path)
    read = [Node(site, channel) for site, channels in circuit.nodes.items() if site.endswith("act_in") for channel in channels]
    found = [node for node in read if node.channel < circuit.model.config.d_model]  # behind them are positions
    if not found:
        raise UserError(f"The circuit of {task.name} has no node at an act_in site, where bridges lead from: give nodes.")
    return found
