"""Everything the page shows, as one JSON value read from a run folder; the page knows nothing but this.

    schema    {name, version}; the version is raised when a field changes its meaning or goes
    run       {name, config, versions, git, n_tokens, n_steps, tokens_per_step}, or null in a page of circuits alone
    data      {hash, n_train_tokens, n_validation_tokens, sources: [{title, share}]}, or null
    model     model.json: {validation_loss, n_nonzero, n_entries, l0_fraction, dead_fraction: {site kind: fraction}}, or null
    curves    see `curves.py`, or null
    tasks     the doctor's rows (`Diagnosis.to_dict`), or null
    circuits  a list, see `graph.py`; in the order of the tasks
    texts     the texts of tokens; elsewhere a token is its place in this list
    samples   {model_hash: see `samples.py`} for every model of the circuits whose pretraining tokens are at hand
    bridge    bridge.json, the scores of a bridge (`BridgeScores`), or null
    steering  a list: what is in steering/ (`SteeringCurves`, and `features`, a list of `NodeFeature`)
    finetunes see `finetunes.py`, or null
    live      null in a file; where a server stands behind the page (`api.py`): {model: {n_ctx} or null, circuits: [{model, why,
              answers, n_pairs, n_ctx}], steering, why_no_steering, limits: {n_bytes, seconds}}

Losses are in nats. A number that is not finite is null, as JSON has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sparse_circuits.circuits import Circuit
from sparse_circuits.errors import UserError
from sparse_circuits.report.curves import training_curves
from sparse_circuits.report.finetunes import finetunes_payload
from sparse_circuits.report.graph import circuit_graph
from sparse_circuits.report.numbers import finite
from sparse_circuits.report.samples import Sample, sample_behaviour
from sparse_circuits.report.texts import Texts
from sparse_circuits.run import read_json
from sparse_circuits.training.track import read_metrics

SCHEMA = {"name": "sparse_circuits.report", "version": 2}


def run_payload(run_folder: Path, *, samples: Mapping[str, Sample] | None = None) -> dict[str, Any]:
    """Return the payload of a run folder; parts that the run has not reached are null or empty.

    A folder of circuits alone, as of a model that comes with the package, has no run, nor has one of finetunes.

    Args:
        run_folder: what training, extraction, bridges and steering wrote to, or `embed` and `dit`.
        samples: for hashes of models, tokens that they were trained on, Int[Tensor, "n_rows pos"].

    Raises:
        UserError: the folder holds no run, no circuit and no finetune, or one of its files is damaged.
    """
    folder = Path(run_folder)
    finetunes = finetunes_payload(folder)
    has_run = _has_run(folder, beside=finetunes)
    circuits = [Circuit.load(path) for path in sorted(folder.glob("circuits/*.safetensors"))]
    if not has_run and not circuits and not finetunes:
        raise UserError(f"{folder} holds neither run.json nor circuits: give the folder that training or extraction wrote.")
    tasks = _read(folder / "tasks.json")
    return _payload(
        _in_order(circuits, [row["task"] for row in tasks or ()]),
        samples or {},
        run=_run(folder) if has_run else None,
        data=_data(_read(folder / "data.json")),
        model=_read(folder / "model.json"),
        curves=training_curves(_metrics(folder / "metrics.jsonl")) if has_run else None,
        tasks=tasks,
        bridge=_read(folder / "bridge.json"),
        steering=[read_json(path) for path in sorted(folder.glob("steering/*.json"))],
        finetunes=finetunes,
    )


def circuit_payload(circuit: Circuit, *, sample: Sample | None = None) -> dict[str, Any]:
    """Return the payload of one circuit without its run.

    Args:
        circuit: the one.
        sample: tokens that its model was trained on.
    """
    return _payload([circuit], {} if sample is None else {circuit.model_hash: sample})


def to_json(payload: dict[str, Any]) -> str:
    """Return a payload as compact JSON."""
    return json.dumps(finite(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _payload(circuits: list[Circuit], samples: Mapping[str, Sample], **parts: Any) -> dict[str, Any]:
    absent = dict.fromkeys(("run", "data", "model", "curves", "tasks", "bridge", "finetunes", "live"))
    texts = Texts()
    graphs = [circuit_graph(circuit, texts) for circuit in circuits]
    hashes = dict.fromkeys(circuit.model_hash for circuit in circuits)
    behaviours = {
        model_hash: sample_behaviour(
            [circuit for circuit in circuits if circuit.model_hash == model_hash], samples[model_hash], texts
        )
        for model_hash in hashes
        if model_hash in samples
    }
    return {
        "schema": SCHEMA,
        **absent,
        "steering": [],
        **parts,
        "circuits": graphs,
        "texts": texts.listed(),
        "samples": behaviours,
    }


def _has_run(folder: Path, *, beside: dict[str, Any] | None) -> bool:
    """Whether there is a training run: run.json may also be of what trained an adapter, beside whose answers it lies."""
    path = folder / "run.json"
    return path.is_file() and (beside is None or "data" in read_json(path).get("config", {}))


def _run(folder: Path) -> dict[str, Any]:
    run = read_json(folder / "run.json")
    try:
        config = run["config"]
        tokens_per_step = config["batch_size"] * config["model"]["n_ctx"]
        n_steps = config["n_tokens"] // tokens_per_step
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{folder}/run.json is not of a training run ({error!r}): give the folder that training wrote."
        ) from error
    return {
        "name": folder.resolve().name,
        **run,
        "n_tokens": n_steps * tokens_per_step,
        "n_steps": n_steps,
        "tokens_per_step": tokens_per_step,
    }


def _data(manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    if manifest is None:
        return None
    counts = {key: manifest[key] for key in ("hash", "n_train_tokens", "n_validation_tokens")}
    sources = [{"title": title, "share": source["share"]} for title, source in manifest["sources"].items()]
    return {**counts, "sources": sources}


def _read(path: Path) -> Any:
    return read_json(path) if path.exists() else None


def _metrics(path: Path) -> list[dict[str, Any]]:
    try:
        return read_metrics(path)
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): remove the broken line, or resume the run.") from error


def _in_order(circuits: Iterable[Circuit], names: list[str]) -> list[Circuit]:
    rank = {name: position for position, name in enumerate(names)}
    return sorted(circuits, key=lambda circuit: rank.get(circuit.task.name, len(rank)))
