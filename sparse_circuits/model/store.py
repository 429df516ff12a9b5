"""Tensors on disk: one safetensors file that checks itself, sparse matrices as index and value.

A tensor with fewer than a quarter of its entries nonzero is stored as the flat indices and the values of those entries,
so that a sparse model's file is as small as the model. The header carries the kind of file, free metadata, and a checksum
of every tensor as it is stored: name, dtype, shape and bytes. The header itself has none.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sparse_circuits.errors import UserError
from sparse_circuits.model.config import ModelConfig
from sparse_circuits.model.transformer import Transformer
from sparse_circuits.plain import from_plain, to_plain
from sparse_circuits.run import replacing

SPARSE_BELOW = 0.25
MODEL_FILE = "model.safetensors"


class TensorFile(NamedTuple):
    """What a tensor file holds."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, kind: str, metadata: Mapping[str, Any] | None = None) -> None:
    """Write tensors to one file, atomically.

    Args:
        path: the file.
        tensors: tensors by name; those of low density are stored sparsely, without loss.
        kind: what the file is, such as `model` or `circuit`; reading checks it.
        metadata: JSON values to keep beside the tensors.
    """
    stored: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        if _is_sparse(tensor):
            index = tensor.flatten().nonzero().squeeze(1)
            shapes[name] = list(tensor.shape)
            stored[f"{name}:index"] = index.to(torch.int32 if tensor.numel() < 1 << 31 else torch.int64)
            stored[f"{name}:value"] = tensor.flatten()[index]
        else:
            stored[name] = tensor
    header = {"kind": kind, "sparse": shapes, "metadata": dict(metadata or {}), "checksum": _checksum(stored)}
    with replacing(path) as temporary:
        save_file(stored, temporary, metadata={"sparse_circuits": json.dumps(header)})


def read_tensors(path: Path, *, kind: str) -> TensorFile:
    """Read a file of `write_tensors`.

    Raises:
        UserError: the file is missing, truncated, damaged, not ours, or of another kind.
    """
    if not Path(path).is_file():
        raise UserError(f"{path} does not exist: check the path, or run the step that writes it.")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("sparse_circuits", "null"))
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is truncated or no safetensors file ({error}): restore it from a copy.") from error
    if header is None:
        raise UserError(f"{path} was not written by sparse_circuits: import foreign checkpoints first.")
    if header["kind"] != kind:
        raise UserError(f"{path} holds a {header['kind']}, not a {kind}: give the path of a {kind} file.")
    if header["checksum"] != _checksum(stored):
        raise UserError(f"{path} is damaged (its checksum does not match): restore it from a copy.")
    for name, shape in header["sparse"].items():
        value = stored.pop(f"{name}:value")
        dense = value.new_zeros(math.prod(shape))
        dense[stored.pop(f"{name}:index").long()] = value
        stored[name] = dense.view(shape)
    return TensorFile(stored, header["metadata"])


def _is_sparse(tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return False
    return int(tensor.count_nonzero()) < SPARSE_BELOW * tensor.numel()


def _checksum(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {list(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def model_hash(model: Transformer) -> str:
    """Return a hash of the model's shape and of every weight, by which circuits name the model they were found in."""
    digest = hashlib.sha256(json.dumps([to_plain(model.config), model.d_vocab]).encode())
    weights = {name: tensor.detach().cpu() for name, tensor in model.state_dict().items()}
    return hashlib.sha256(digest.digest() + _checksum(weights).encode()).hexdigest()


def save_model(model: Transformer, folder: Path, *, tokenizer: str) -> None:
    """Write a model without optimizer state: weights, shape, and its tokenizer's JSON, in one file of the folder."""
    metadata = {"config": to_plain(model.config), "d_vocab": model.d_vocab, "tokenizer": tokenizer}
    write_tensors(Path(folder) / MODEL_FILE, own_weights(model), kind="model", metadata=metadata)


def own_weights(model: Transformer) -> dict[str, Tensor]:
    """Return the weights that a file has to hold: a tied unembedding is the embedding."""
    weights = dict(model.state_dict())
    if model.config.tied:
        weights.pop("unembed.weight")
    return weights


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


class SavedModel(NamedTuple):
    """A model as loaded: the transformer in evaluation mode, and the JSON of its tokenizer."""

    model: Transformer
    tokenizer: str


def load_model(folder: Path) -> SavedModel:
    """Load a model written by `save_model` from its folder.

    Raises:
        UserError: the file is missing, damaged or not a model of ours.
    """
    tensors, metadata = read_tensors(Path(folder) / MODEL_FILE, kind="model")
    with torch.random.fork_rng(devices=[]):  # loading must not move the caller's random numbers
        model = Transformer(from_plain(ModelConfig, metadata["config"]), d_vocab=metadata["d_vocab"])
    load_weights(model, tensors, source=Path(folder) / MODEL_FILE)
    return SavedModel(model.eval().requires_grad_(False), metadata["tokenizer"])


def load_weights(model: Transformer, weights: Mapping[str, Tensor], *, source: Path) -> None:
    """Copy named weights into a model.

    Raises:
        UserError: a name or a shape does not fit the model.
    """
    own = own_weights(model)
    if odd := sorted(own.keys() ^ weights.keys()):
        raise UserError(f"{source} does not fit the model: {', '.join(odd[:3])} missing or unexpected; use its own config.")
    for name, tensor in weights.items():
        if own[name].shape != tensor.shape:
            raise UserError(
                f"{source} does not fit the model: {name} is {list(tensor.shape)} in the file and "
                f"{list(own[name].shape)} in the model; use its own config."
            )
        own[name].copy_(tensor)
