"""A circuit's one file: its nodes, edges and numbers as JSON, its model and means as tensors.

The model is sparse, so its weights cost little; only the bigram table is dense. Of that the file keeps the columns that the
task's answers are read from, which leaves their probabilities exactly as they were.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sparse_circuits.circuits.card import Card
from sparse_circuits.circuits.edges import Edge
from sparse_circuits.circuits.means import Means
from sparse_circuits.circuits.notes import Notes
from sparse_circuits.circuits.spec import TaskSpec
from sparse_circuits.circuits.subgraph import Merge
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Node, Transformer, node_sites
from sparse_circuits.model.store import below, load_weights, own_weights, read_tensors, write_tensors
from sparse_circuits.plain import from_plain, to_plain
from sparse_circuits.tasks.calibrate import Calibration

if TYPE_CHECKING:
    from sparse_circuits.circuits.circuit import Circuit

VERSION = 2


def write_circuit(circuit: Circuit, path: Path) -> None:
    """Write a circuit, atomically."""
    weights = _weights(circuit.model, answer_ids=circuit.task.answer_ids)
    tensors = {f"weights/{name}": weight for name, weight in weights.items()}
    tensors |= {f"means/{site}": mean for site, mean in circuit.means.sites.items()}
    metadata = {
        "version": VERSION,
        "task": to_plain(circuit.task),
        "nodes": circuit.nodes,
        "edges": [[str(edge.source), str(edge.target), edge.weight] for edge in circuit.edges],
        "calibration": to_plain(circuit.calibration),
        "card": to_plain(circuit.card),
        "recipe": circuit.recipe,
        "merges": [to_plain(merge) for merge in circuit.merges],
        "notes": to_plain(circuit.notes),
        "means": {"n_tokens": circuit.means.n_tokens, "model_hash": circuit.means.model_hash},
        "model": {"config": to_plain(circuit.model.config), "d_vocab": circuit.model.d_vocab},
        "tokenizer": circuit.tokenizer.to_json(),
    }
    write_tensors(path, tensors, kind="circuit", metadata=metadata)


def _weights(model: Transformer, *, answer_ids: list[int] | None) -> dict[str, Tensor]:
    """Return the model's weights, the bigram table cut to the answers' columns."""
    weights = own_weights(model)
    if model.bigram is not None and answer_ids is not None:
        weights["bigram"] = torch.zeros_like(model.bigram)
        weights["bigram"][:, answer_ids] = model.bigram.detach()[:, answer_ids]
    return weights


def read_circuit(path: Path) -> dict[str, Any]:
    """Read what `write_circuit` wrote, as the fields of a Circuit.

    Raises:
        UserError: the file is missing, damaged, or no circuit.
    """
    tensors, metadata = read_tensors(path, kind="circuit")
    if metadata["version"] != VERSION:
        raise UserError(f"{path} is a circuit of version {metadata['version']}, not {VERSION}: extract it again.")
    config = from_plain(ModelConfig, metadata["model"]["config"])
    with torch.random.fork_rng(devices=[]):  # loading must not move the caller's random numbers
        model = Transformer(config, d_vocab=metadata["model"]["d_vocab"])
    load_weights(model, below("weights/", tensors), source=Path(path))
    means = below("means/", tensors)
    return {
        "model": model.eval().requires_grad_(False),
        "tokenizer": Tokenizer.from_json(metadata["tokenizer"]),
        "means": Means({site: means[site] for site in node_sites(config)}, **metadata["means"]),
        "nodes": metadata["nodes"],
        "edges": [Edge(Node.parse(source), Node.parse(target), weight) for source, target, weight in metadata["edges"]],
        "calibration": from_plain(Calibration, metadata["calibration"]),
        "task": from_plain(TaskSpec, metadata["task"]),
        "card": from_plain(Card, metadata["card"]),
        "recipe": metadata["recipe"],
        "merges": [from_plain(Merge, merge) for merge in metadata["merges"]],
        "notes": Notes.from_plain(metadata.get("notes", {}), source=f"the notes in {path}"),  # files of before have none
    }
