"""The finished model of a run: weights without optimizer state, with the tokenizer that they were trained with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer, load_model, save_model


class Trained(NamedTuple):
    """A model and its tokenizer."""

    model: Transformer
    tokenizer: Tokenizer


def export_model(model: Transformer, tokenizer: Tokenizer, run_folder: Path) -> Path:
    """Write the model of a run to its `model` folder and return that folder."""
    save_model(model, run_folder / "model", tokenizer=tokenizer.to_json())
    return run_folder / "model"


def load_trained(folder: Path, *, tokenizer: Tokenizer | None = None) -> Trained:
    """Load a model from a run folder, or from a model folder itself.

    Args:
        folder: a run folder, or the `model` folder in it.
        tokenizer: one to use instead of the model's own.

    Raises:
        UserError: there is no model, it is damaged, or the tokenizer does not fit it.
    """
    folder = Path(folder) / "model" if (Path(folder) / "model").is_dir() else Path(folder)
    model, own = load_model(folder)
    tokenizer = tokenizer or Tokenizer.from_json(own)
    if tokenizer.d_vocab != model.d_vocab:
        raise UserError(
            f"The tokenizer has {tokenizer.d_vocab:,} ids and the model {model.d_vocab:,}: use the tokenizer of its training."
        )
    return Trained(model, tokenizer)
