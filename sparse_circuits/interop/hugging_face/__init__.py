"""Models of ours in a folder that `transformers` opens, and back.

The folder holds config.json, model.safetensors, tokenizer.json and one file of code, modeling_sparse_circuits.py, which needs
torch and transformers and nothing of this package. Weights have our names.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Positions, Transformer
from sparse_circuits.model.config import PositionKind
from sparse_circuits.model.store import load_weights
from sparse_circuits.plain import from_plain, to_plain
from sparse_circuits.run import read_json, replacing
from sparse_circuits.training.export import Trained

CODE = "modeling_sparse_circuits.py"
OURS = "sparse_circuits_config"
"""Key of config.json that holds our own configuration, for the way back."""


def export_model(model: Transformer, tokenizer: Tokenizer, folder: Path) -> Path:
    """Write a model as a folder for `AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)`, atomically.

    Returns:
        The folder.

    Raises:
        UserError: the model has parts that only imported ones have, or the folder could not be written.
    """
    if model.between is not None:
        raise UserError("This model changes its stream between sublayers, as no model of ours does: keep its own files.")
    with replacing(Path(folder)) as unfinished:
        unfinished.mkdir()
        weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
        if model.positions is not None:  # fixed sinusoids are a buffer of ours that is not stored
            weights["positions.table"] = model.positions.table.detach().cpu().contiguous().clone()
        save_file(weights, unfinished / "model.safetensors", metadata={"format": "pt"})
        (unfinished / "config.json").write_text(json.dumps(hugging_face_config(model), indent=2) + "\n", encoding="utf-8")
        tokenizer.save(unfinished / "tokenizer.json")
        (unfinished / CODE).write_text(code_text(), encoding="utf-8")
    return Path(folder)


def code_text() -> str:
    """Return the file of code that a folder is given."""
    return Path(__file__).with_name(CODE).read_text(encoding="utf-8")


def hugging_face_config(model: Transformer) -> dict[str, Any]:
    """Return the config.json of a model."""
    config = model.config
    widths = {"act_in": config.d_read, "q": config.d_attn, "k": config.d_attn, "v": config.d_attn}
    widths |= {"post_act": config.neurons, "resid_delta": config.d_model}
    stem = CODE.removesuffix(".py")
    return {
        "architectures": ["SparseCircuitsForCausalLM"],
        "model_type": "sparse_circuits",
        "auto_map": {
            "AutoConfig": f"{stem}.SparseCircuitsConfig",
            "AutoModelForCausalLM": f"{stem}.SparseCircuitsForCausalLM",
        },
        "dtype": "float32",
        "vocab_size": model.d_vocab,
        "n_layers": config.n_layers,
        "d_model": config.d_model,
        "n_ctx": config.n_ctx,
        "n_heads": config.heads,
        "d_head": config.d_head,
        "d_mlp": config.neurons,
        "activation": config.activation.name,
        "d_added_positions": config.d_model if config.positions is Positions.added else 0,
        "d_read_positions": config.position_width,
        "sinks": config.sinks,
        "bigram": config.bigram,
        "biases": config.biases,
        "kept": {kind: config.survivors(kind, widths[kind.split(".")[1]]) for kind in config.fractions()},
        OURS: to_plain(config),
    }


def import_model(folder: Path) -> Trained:
    """Load a model of ours from a folder that `export_model` wrote, or that was trained on from there.

    Raises:
        UserError: a file is missing or damaged, or it is no model of ours.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    if not isinstance(config, dict) or OURS not in config:
        raise UserError(f"{folder} holds no model that this project exported: load it as a dense model, or from its own run.")
    shape = from_plain(ModelConfig, config[OURS])
    try:
        weights = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / 'model.safetensors'} is missing or damaged ({error}): export the model again.") from error
    if shape.position_kind is PositionKind.sinusoidal:
        weights.pop("positions.table", None)
    if shape.tied:
        weights.pop("unembed.weight", None)
    with torch.random.fork_rng(devices=[]):  # loading must not move the caller's random numbers
        model = Transformer(shape, d_vocab=config["vocab_size"])
    load_weights(model, weights, source=folder / "model.safetensors")
    return Trained(model.eval().requires_grad_(False), Tokenizer.load(folder / "tokenizer.json"))
