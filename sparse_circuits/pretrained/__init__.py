"""Models that come with the package: `checkpoint=pretrained:NAME` works at once, without training and without network.

A model is one file in this folder: weights (sparse, like every checkpoint; the bigram table in float16), tokenizer, the means
that circuits ablate to, and what it was made with. The means are those of the model as it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sparse_circuits.circuits.means import Means
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError, nearest
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.model.store import below, load_weights, model_hash, own_weights, read_tensors, write_tensors
from sparse_circuits.plain import from_plain, to_plain

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Pretrained:
    """A model with all that extraction takes."""

    model: Transformer
    tokenizer: Tokenizer
    means: Means
    about: dict[str, Any]
    """What it was trained with and what it reaches, as plain values."""


def pretrained_names() -> list[str]:
    """Return the names of the models that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def load_pretrained(name: str) -> Pretrained:
    """Load a model that comes with the package.

    Raises:
        UserError: there is none of this name.
    """
    names = pretrained_names()
    if name not in names:
        choice = f"choose from {', '.join(names)}" if names else "this version has none, so give a run folder"
        raise UserError(f'There is no pretrained model "{name}"{nearest(name, names)}: {choice}.')
    return read_pretrained(FOLDER / f"{name}.safetensors")


def halve_bigram_(model: Transformer) -> None:
    """Round the bigram table to what float16 holds, in place."""
    if model.bigram is not None:
        with torch.no_grad():
            model.bigram.copy_(model.bigram.half().to(model.bigram.dtype))


def write_pretrained(pretrained: Pretrained, path: Path) -> None:
    """Write a model to one file, atomically.

    Raises:
        UserError: its bigram table holds more than float16 does, or its means belong to another model.
    """
    model, means = pretrained.model, pretrained.means
    weights = own_weights(model)
    if model.bigram is not None:
        weights["bigram"] = model.bigram.detach().half()
        if not torch.equal(weights["bigram"].to(model.bigram.dtype), model.bigram):
            raise UserError("The bigram table does not fit float16: round it with halve_bigram_ before means are measured.")
    if means.model_hash != model_hash(model):
        raise UserError("These means belong to another model: measure them on the model that is written.")
    tensors = {f"weights/{name}": weight for name, weight in weights.items()}
    tensors |= {f"means/{site}": mean for site, mean in means.sites.items()}
    if means.sample is not None:
        tensors["sample"] = means.sample.to(torch.int16 if model.d_vocab <= 1 << 15 else torch.int32)
    metadata = {
        "config": to_plain(model.config),
        "d_vocab": model.d_vocab,
        "tokenizer": pretrained.tokenizer.to_json(),
        "means": {"n_tokens": means.n_tokens, "model_hash": means.model_hash},
        "about": pretrained.about,
    }
    write_tensors(path, tensors, kind="pretrained", metadata=metadata)


def read_pretrained(path: Path) -> Pretrained:
    """Read what `write_pretrained` wrote.

    Raises:
        UserError: the file is missing, damaged, or no pretrained model.
    """
    tensors, metadata = read_tensors(path, kind="pretrained")
    with torch.random.fork_rng(devices=[]):  # loading must not move the caller's random numbers
        model = Transformer(from_plain(ModelConfig, metadata["config"]), d_vocab=metadata["d_vocab"])
    load_weights(model, below("weights/", tensors), source=path)
    sample = tensors.get("sample")
    means = Means(below("means/", tensors), **metadata["means"], sample=None if sample is None else sample.int())
    return Pretrained(model.eval().requires_grad_(False), Tokenizer.from_json(metadata["tokenizer"]), means, metadata["about"])
