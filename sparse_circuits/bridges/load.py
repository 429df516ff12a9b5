"""Where models and bridges come from: run folders of ours, folders and names of Hugging Face."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from sparse_circuits.bridges.bridge import BRIDGE_FILE, Bridge, load_bridge
from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.model.dense import Dense
from sparse_circuits.model.hugging_face import load_hugging_face
from sparse_circuits.model.store import MODEL_FILE, model_hash
from sparse_circuits.training.export import load_trained


class LoadedDense(NamedTuple):
    """A dense model and its tokenizer."""

    model: Dense
    tokenizer: Tokenizer


class Bridged(NamedTuple):
    """A sparse and a dense model with what joins them."""

    sparse: Transformer
    dense: Dense
    bridge: Bridge
    tokenizer: Tokenizer


def load_dense(place: str) -> LoadedDense:
    """Load a dense model: of a run folder of ours, of a folder of Hugging Face's, or by its name on the hub.

    Raises:
        UserError: there is none, or its family is not known.
    """
    folder = Path(place)
    if (folder / "model" / MODEL_FILE).exists() or ((folder / MODEL_FILE).exists() and not (folder / "config.json").exists()):
        trained = load_trained(folder)
        return LoadedDense(trained.model, trained.tokenizer)
    model, text = load_hugging_face(place)
    tokenizer = Tokenizer.from_json(text)
    if tokenizer.d_vocab > model.d_vocab:
        raise UserError(
            f"{place} has a tokenizer of {tokenizer.d_vocab:,} ids and a model of {model.d_vocab:,}: use the tokenizer that"
            " belongs to the model."
        )
    model.d_vocab = tokenizer.d_vocab  # some models pad theirs
    return LoadedDense(model, tokenizer)


def check_tokenizers(ours: Tokenizer, theirs: Tokenizer) -> None:
    """Refuse two vocabularies: a token must be the same in both models.

    Raises:
        UserError: the tokenizers differ.
    """
    if ours.hash != theirs.hash:
        raise UserError(
            f"The sparse model's tokenizer ({ours.d_vocab:,} ids) is not the dense one's ({theirs.d_vocab:,} ids): train the"
            " sparse model with data.tokenizer set to the dense model's tokenizer.json."
        )


def load_bridged(run: Path) -> Bridged:
    """Load what a run of bridge training left: both models and the bridge.

    Raises:
        UserError: the run has no bridge, or one of another sparse model.
    """
    bridge, saved = load_bridge(Path(run) / BRIDGE_FILE)
    trained, dense = load_trained(run), load_dense(saved.dense)
    if saved.sparse_hash != model_hash(trained.model):
        raise UserError(f"{run}/{BRIDGE_FILE} belongs to another sparse model than {run}/model: train the bridge again.")
    check_tokenizers(trained.tokenizer, dense.tokenizer)
    return Bridged(trained.model, dense.model, bridge, trained.tokenizer)
