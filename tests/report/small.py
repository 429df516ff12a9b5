"""A model small enough to make in a moment, its circuits, and a run folder as training, the doctor and extraction leave it."""

import json
import re
import zlib
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import torch

from sparse_circuits.circuits import Card, Check, Circuit, Edge, Means, save_means
from sparse_circuits.circuits.card import Interchange, NodeFidelity
from sparse_circuits.circuits.edges import circuit_edges
from sparse_circuits.circuits.nodes import Channels
from sparse_circuits.circuits.spec import TaskSpec
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.model import ModelConfig, Transformer, node_sites, site_width
from sparse_circuits.model.store import model_hash
from sparse_circuits.plain import to_plain
from sparse_circuits.run import write_json
from sparse_circuits.tasks import TASKS, examine
from sparse_circuits.tasks.calibrate import Calibration
from sparse_circuits.training.config import TrainConfig

MODEL = ModelConfig(n_layers=2, d_model=16, n_ctx=256, d_head=4)
NODES = {
    "0.mlp.act_in": [2, 5],
    "0.mlp.post_act": [7],
    "0.mlp.resid_delta": [5],
    "1.attn.act_in": [2, 5],
    "1.attn.q": [3],
    "1.attn.k": [3],
    "1.attn.v": [2],
    "1.attn.resid_delta": [9],
    "final_resid": [9],
}


def payload_of(page: str) -> dict:
    """Return the payload inside a page."""
    return json.loads(zlib.decompress(b64decode(re.search(r'<script id="payload"[^>]*>([^<]*)<', page)[1])))


def small_tokenizer() -> Tokenizer:
    return Tokenizer.train(["ab"], d_vocab=257)


def small_model(tokenizer: Tokenizer, config: ModelConfig = MODEL) -> Transformer:
    return Transformer(config, d_vocab=tokenizer.d_vocab).eval().requires_grad_(False)


def small_means(model: Transformer, *, sample: torch.Tensor | None = None) -> Means:
    sites = {site: torch.zeros(site_width(model.config, site)) for site in node_sites(model.config)}
    return Means(sites, 100, "hash", sample)


def small_circuit(
    model: Transformer,
    tokenizer: Tokenizer,
    task: str = "single_double_quote",
    *,
    summary: str = "a summary",
    nodes: Channels = NODES,
) -> Circuit:
    edges = circuit_edges(model, nodes)
    spec = TaskSpec(
        name=task,
        summary=summary,
        scoring=TASKS["single_double_quote"].scoring,
        seed=0,
        n_train_pairs=8,
        n_validation_pairs=8,
        n_held_out_pairs=8,
        answers=('")\n', "')\n"),
        answer_ids=sorted(tokenizer.encode("\"'")),
    )
    own = small_means(model)
    return Circuit(model, tokenizer, own, dict(nodes), edges, Calibration(2.0, 0.5), spec, small_card(edges, nodes), recipe={})


def loud_circuit(
    tokenizer: Tokenizer, task: str = "single_double_quote", *, model: Transformer | None = None, n_held_out_pairs: int = 8
) -> Circuit:
    """Return a circuit in which every change is seen: large weights, no AbsTopK, means that are not 0."""
    model = model or loud_model(tokenizer)
    means = Means({site: 0.3 * torch.randn(site_width(MODEL, site)) for site in node_sites(MODEL)}, 100, model_hash(model))
    circuit = small_circuit(model, tokenizer, task)
    return replace(circuit, means=means, task=replace(circuit.task, n_held_out_pairs=n_held_out_pairs))


def loud_model(tokenizer: Tokenizer) -> Transformer:
    model = small_model(tokenizer, replace(MODEL, abs_topk=1.0))
    for weight in model.parameters():
        if weight.ndim == 2:
            weight.mul_(12)
    return model


def small_card(edges: list[Edge], nodes: Channels = NODES) -> Card:
    checks = [
        Check("model", "nothing ablated", 0.01, 0.005, 0.02, 1.0, 1),
        Check("circuit", "everything outside ablated, calibrated", 0.125, 0.1, 0.15, 0.99, 1, at_most=0.2),
        Check("necessity", "only the circuit's nodes ablated", 0.5, 0.45, 0.55, 0.6, 1, at_least=0.6),
    ]
    return Card(
        n_nodes=sum(map(len, nodes.values())),
        n_edges=len(edges),
        nodes_per_site={site: len(channels) for site, channels in nodes.items()},
        edges_per_link={},
        target_loss=0.15,
        n_pairs=8,
        checks=checks,
        without_nodes={"1.attn.q[3]": 0.4, "final_resid[9]": 0.7},
        without_edges={str(edges[0]): 0.3} if edges else {},
        fidelity=[NodeFidelity("1.attn.q[3]", 0.9, 0.2)],
        pattern_error={"1.attn head 0": 0.1},
        interchange=Interchange(0.9, 1.0, 1.0, 1.0),
    )


def small_run(folder: Path, tokenizer: Tokenizer, circuits: list[Circuit]) -> Path:
    """Write a run of these circuits of one model."""
    write_json(folder / "run.json", {"config": to_plain(TrainConfig(model=MODEL)), "versions": {"torch": "2"}, "git": "abc"})
    write_json(
        folder / "model.json",
        {"validation_loss": 2.5, "n_nonzero": 10, "n_entries": 160, "l0_fraction": 0.0625, "dead_fraction": {"attn.q": 0.25}},
    )
    source = {"share": 1.0, "licence": "PSF-2.0"}
    write_json(
        folder / "data.json",
        {"hash": "ff", "n_train_tokens": 1000, "n_validation_tokens": 100, "sources": {"stdlib": source}},
    )
    names = ("with_as", "single_double_quote")
    diagnoses = examine([TASKS[name] for name in names], tokenizer, n_pairs=4)
    write_json(folder / "tasks.json", [diagnosis.to_dict() for diagnosis in diagnoses])
    for circuit in circuits:
        circuit.save(folder / "circuits" / f"{circuit.task.name}.safetensors")
    lines = [{"step": step, "loss": 5.0 - step, "l0": 100.0, "lr": 0.01, "gradient_rms": 1.0} for step in (1, 2, 3)]
    lines += [{"step": 3, "validation_loss": 2.5, "tasks/with_as/loss": 0.3, "tasks/known": 0.0}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = torch.tensor(tokenizer.encode("def f(data=None, key=\"total\"):\n    print('a')\n" * 60))
    save_means(small_means(circuits[0].model, sample=text[:512].view(4, 128).int()), folder / "means.safetensors")
    return folder
