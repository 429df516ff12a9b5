"""Do two models compute the same? The largest difference of their logits, and at every site, on random tokens."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.errors import UserError
from sparse_circuits.interop.hugging_face import CODE, OURS, code_text, import_model
from sparse_circuits.interop.openai import load_openai
from sparse_circuits.interop.openai.config import CONFIG_FILE
from sparse_circuits.kernels.backend import Backend, use_backend
from sparse_circuits.model import Transformer, record
from sparse_circuits.model.hugging_face import logits_of_folder
from sparse_circuits.model.sites import all_sites
from sparse_circuits.run import read_json
from sparse_circuits.training.export import load_trained


class Difference(NamedTuple):
    """How far two models are apart, in absolute value at the worst entry."""

    logits: float
    sites: dict[str, float]
    """By site, in firing order; empty where the other model's sites cannot be seen."""


def load_any(place: str) -> Transformer:
    """Load a model of ours from a run folder, an exported Hugging Face folder, or a folder of OpenAI's.

    Raises:
        UserError: there is none, or it is damaged.
    """
    folder = Path(place)
    if (folder / CONFIG_FILE).exists():
        return load_openai(folder).model
    if (folder / "config.json").exists() and OURS in read_json(folder / "config.json"):
        return import_model(folder).model
    return load_trained(folder).model


@torch.no_grad()
def compare(model: Transformer, other: Transformer, tokens: Int[Tensor, "batch pos"]) -> Difference:
    """Return how far two models of one shape are apart.

    Raises:
        UserError: their shapes differ.
    """
    if (model.config, model.d_vocab) != (other.config, other.d_vocab):
        raise UserError("The two models have different shapes, so their sites cannot be compared: give two of one shape.")
    sites = all_sites(model.config)
    ours, theirs = (record(each, tokens, sites) for each in (model, other))
    apart = {site: _largest(ours[site], theirs[site]) for site in sites}
    return Difference(_largest(model(tokens), other(tokens)), apart)


@torch.no_grad()
def against_itself(model: Transformer, tokens: Int[Tensor, "batch pos"]) -> Difference:
    """Return how far a model, on its device, is from itself in float64 on the CPU with the plain kernels."""
    wide = deepcopy(model).cpu().double()
    with use_backend(Backend.reference):
        theirs, logits = record(wide, tokens.cpu(), all_sites(model.config)), wide(tokens.cpu())
    ours = record(model, tokens, all_sites(model.config))
    return Difference(_largest(model(tokens), logits), {site: _largest(ours[site], theirs[site]) for site in theirs})


@torch.no_grad()
def against_hugging_face(model: Transformer, folder: Path, tokens: Int[Tensor, "batch pos"]) -> Difference:
    """Return how far a model's logits are from those of an exported folder, run by `transformers`.

    Raises:
        UserError: the folder's code is not the one that this project writes, so that it is not run, or its model has another
            vocabulary or reads fewer tokens.
    """
    if (Path(folder) / CODE).read_text(encoding="utf-8") != code_text():
        raise UserError(f"{folder}/{CODE} is not the file that this project writes, so it is not run: export the model again.")
    theirs = read_json(Path(folder) / "config.json")
    if (theirs["vocab_size"], theirs["n_ctx"]) != (model.d_vocab, model.config.n_ctx):
        raise UserError(
            f"{folder} has a vocabulary of {theirs['vocab_size']} and reads {theirs['n_ctx']} tokens, the model {model.d_vocab}"
            f" and {model.config.n_ctx}: give two of one shape."
        )
    return Difference(_largest(model(tokens), logits_of_folder(folder, tokens)), {})


def _largest(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        raise UserError(f"The two models answer in shapes {list(ours.shape)} and {list(theirs.shape)}: give two of one shape.")
    return (ours.cpu().double() - theirs.cpu().double()).abs().max().item()
