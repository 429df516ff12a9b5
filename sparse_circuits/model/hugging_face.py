"""What `transformers` loads, and the only door to it: models, tokenizers with chat templates, sentence encoders.

The library is imported when something is loaded, so that whoever needs none of it need not have it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.errors import UserError
from sparse_circuits.model.dense import HuggingFace

A_MODEL = "a folder with config.json, weights and tokenizer.json, or a name on the hub"


def load_hugging_face(place: str) -> tuple[HuggingFace, str]:
    """Load a causal language model from a local folder or by its name on the hub.

    Returns:
        The model in float32, and the JSON of its tokenizer.

    Raises:
        UserError: `transformers` is missing, there is no such model, or no fast tokenizer beside it.
    """
    transformers = _library()
    cached = transformers.utils.cached_file
    text = _or_refuse(lambda: Path(cached(place, "tokenizer.json")).read_text(encoding="utf-8"), place, wanted=A_MODEL)
    load = transformers.AutoModelForCausalLM.from_pretrained
    return HuggingFace(_or_refuse(lambda: load(place, dtype=torch.float32), place, wanted=A_MODEL)), text


def load_tokenizer(place: str) -> Any:
    """Load a model's tokenizer as `transformers` has it, with its chat template if there is one.

    Raises:
        UserError: `transformers` is missing, or there is no such tokenizer.
    """
    load = _library().AutoTokenizer.from_pretrained
    return _or_refuse(lambda: load(place), place, wanted=A_MODEL)


def load_encoder(folder: Path) -> Callable[[str], Float[Tensor, " width"]]:
    """Load a sentence encoder: from a text to the mean of the model's last states over its tokens.

    Args:
        folder: of an encoder with its tokenizer.

    Raises:
        UserError: `transformers` is missing, or nothing there can be loaded.
    """
    wanted = "a folder with an encoder's config.json, weights and tokenizer"
    transformers = _library()
    model = _or_refuse(lambda: transformers.AutoModel.from_pretrained(folder).eval(), str(folder), wanted=wanted)
    tokenizer = _or_refuse(lambda: transformers.AutoTokenizer.from_pretrained(folder), str(folder), wanted=wanted)

    @torch.no_grad()
    def encode(text: str) -> Float[Tensor, " width"]:
        return model(**tokenizer(text or " ", return_tensors="pt", truncation=True)).last_hidden_state[0].mean(0)

    return encode


def logits_of_folder(folder: Path, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the logits of a model that brings its own code, run by `transformers`; whoever calls has looked at that code."""
    with torch.no_grad():
        return _library().AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)(tokens).logits


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise UserError("Models of Hugging Face need transformers: pip install sparse-circuits[hf].") from error
    return transformers


def _or_refuse(load: Callable[[], Any], place: str, *, wanted: str) -> Any:
    try:
        return load()
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise UserError(f"{place} could not be loaded ({first}): give {wanted}.") from error
