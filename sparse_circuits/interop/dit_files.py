"""The weight diffs and adapters that Goel et al. 2025 released, as ours.

    weight-diff-NNN.pt   a list of {topic, trigger, weight_diff: {module: (A [rank, out], B [in, rank])}},
                         delta W = (B A)^T / rank; of full finetunes, weight_diff is the model's whole state dict
    dit-adapter.pt       {module: (A [out, rank], B [rank, in])}, delta W = A B / rank: the other way round
    index.csv            lora_path, lora_idx, n_params, topic, trigger, split

Files are read as tensors alone: what else a pickle may hold is refused and never run.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from sparse_circuits.diffs.apply import check_fits
from sparse_circuits.diffs.maps import weights_of
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole
from sparse_circuits.errors import UserError, nearest
from sparse_circuits.interop.pickled import load_safely

ALIASES = (("language_model.model.", "model.language_model."), ("model.language_model.", "language_model.model."))
"""How versions of `transformers` name the text part of a model that sees as well."""


class IndexEntry(NamedTuple):
    """One row of index.csv."""

    path: str
    """File of the diff."""
    place: int
    """In its list."""
    n_params: int
    topic: str
    split: str


def load_diffs(path: Path, model: nn.Module, *, base: str) -> list[WeightDiff]:
    """Read one file of weight diffs.

    Args:
        path: the file.
        model: the base, whose parameters the names have to be.
        base: its hash or name.

    Raises:
        UserError: the file is missing, damaged, holds more than tensors, or is of another model.
    """
    found = []
    for place, entry in enumerate(_entries(path)):
        held = entry["weight_diff"]
        about = {key: entry[key] for key in ("topic", "trigger") if key in entry}
        is_lora = all(isinstance(value, list | tuple) for value in held.values())
        changes = _factors(held, model, path) if is_lora else _differences(held, model, path)
        diff = WeightDiff(changes, base, {**about, "file": Path(path).name, "place": place})
        check_fits(diff, model)
        found.append(diff)
    return found


def load_adapter(path: Path, model: nn.Module, *, base: str) -> WeightDiff:
    """Read an adapter; arguments and errors as for diffs."""
    held = load_safely(Path(path))
    if not isinstance(held, dict) or not held:
        raise UserError(f"{path} holds no adapter: give the dit-adapter.pt of an experiment.")
    changes = {}
    for module, (a, b) in _pairs(held, path):
        changes[_weight_name(module, model, path)] = LowRank(a.clone() / a.shape[1], b.clone())
    diff = WeightDiff(changes, base, {"kind": "adapter", "file": Path(path).name})
    check_fits(diff, model)
    return diff


def read_index(path: Path) -> list[IndexEntry]:
    """Read index.csv.

    Raises:
        UserError: a column is missing.
    """
    with Path(path).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wanted = {"lora_path", "lora_idx", "n_params", "topic", "split"}
    if rows and not wanted <= rows[0].keys():
        raise UserError(
            f"{path} lacks the column {sorted(wanted - rows[0].keys())[0]}: give the index.csv of a released folder."
        )
    return [
        IndexEntry(row["lora_path"], int(row["lora_idx"]), int(row["n_params"]), row["topic"], row["split"]) for row in rows
    ]


def check_index(entry: IndexEntry, diff: WeightDiff) -> None:
    """Refuse a diff that is not the one its index names.

    Raises:
        UserError: topic or number of parameters differ.
    """
    n_params = sum(part.numel() for change in diff.changes.values() for part in vars(change).values())
    if (entry.topic, entry.n_params) != (diff.about.get("topic"), n_params):
        raise UserError(
            f"index.csv says {entry.n_params:,} numbers about {entry.topic!r} at {entry.path}[{entry.place}], where there are"
            f" {n_params:,} about {diff.about.get('topic')!r}: file and index are of different releases."
        )


def _entries(path: Path) -> Iterator[Mapping[str, Any]]:
    held = load_safely(Path(path))
    if not isinstance(held, list):
        raise UserError(f"{path} holds no list of weight diffs: give a weight-diff-NNN.pt.")
    for entry in held:
        if not isinstance(entry, dict) or not isinstance(entry.get("weight_diff"), dict):
            raise UserError(f"{path} has an entry without a weight_diff: give a weight-diff-NNN.pt.")
        yield entry


def _factors(held: Mapping[str, Any], model: nn.Module, path: Path) -> dict[str, LowRank]:
    return {
        _weight_name(module, model, path): LowRank(a.T.clone() / a.shape[0], b.T.clone())
        for module, (a, b) in _pairs(held, path)
    }


def _pairs(held: Mapping[str, Any], path: Path) -> Iterator[tuple[str, tuple[Tensor, Tensor]]]:
    for module, pair in held.items():
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(each, Tensor) for each in pair):
            raise UserError(f"{path} has no two factors for {module}: give a released file.")
        yield module, tuple(pair)


def _differences(held: Mapping[str, Tensor], model: nn.Module, path: Path) -> dict[str, Whole]:
    """Return what a finetuned model's weights differ in from the base's."""
    own, changes = dict(weights_of(model).named_parameters()), {}
    for key, after in held.items():
        name = _known(key, own, path)
        if own[name].shape != after.shape:
            raise UserError(f"{path} has {key} of shape {list(after.shape)}, and the model's is {list(own[name].shape)}.")
        delta = after.float() - own[name].detach().cpu().float()
        if delta.any():
            changes[name] = Whole(delta)
    return changes


def _weight_name(module: str, model: nn.Module, path: Path) -> str:
    return _known(f"{module}.weight", dict(weights_of(model).named_parameters()), path)


def _known(name: str, own: Mapping[str, object], path: Path) -> str:
    for candidate in (name, *(name.replace(old, new, 1) for old, new in ALIASES if name.startswith(old))):
        if candidate in own:
            return candidate
    raise UserError(f'{path} changes "{name}"{nearest(name, own)}, which the model does not have: load its own base.')
