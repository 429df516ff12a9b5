"""Pools of labelled finetunes on disk: a store of ours, a list of places, or what Goel et al. 2025 released.

FOLDER/index.json   a store of ours; what its diffs say of themselves under `label` is their label
LIST.jsonl          one {"place": ..., "label": ..., "split": ...} a line, places as everywhere; the split may be missing
FOLDER/index.csv    the released files, which are brought into a store once, so that none is read again as a whole
"""

from __future__ import annotations

from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from sparse_circuits.bridges.load import LoadedDense
from sparse_circuits.data.files import read_rows
from sparse_circuits.diffs.labelled import Labelled
from sparse_circuits.diffs.store import INDEX_FILE, DiffStore, Part
from sparse_circuits.diffs.weight_diff import named
from sparse_circuits.errors import UserError, nearest
from sparse_circuits.interop.dit_files import check_index, load_diffs, read_index
from sparse_circuits.interop.finetunes import load_finetune

RELEASED_PARTS = {"train": Part.train, "test": Part.test}
"""The third split of the released index, `extra`, was neither learned from nor asked about."""


def read_pool(place: Path, base: LoadedDense, *, of: str, label: str, store: Path) -> list[Labelled]:
    """Return what a pool holds, without reading its diffs.

    Args:
        place: a store's folder, a .jsonl, or an index.csv.
        base: the model that all are finetunes of.
        of: its hash or name.
        label: under which name a store's diffs keep their labels.
        store: folder for what is brought in from an index.csv.

    Raises:
        UserError: there is no pool, it is of another base, or an entry has no label.
    """
    if (place / INDEX_FILE).is_file():
        return _of_store(DiffStore(place), of=of, label=label)
    if place.suffix == ".jsonl" and place.is_file():
        return [_of_row(row, base, of=of, where=where) for where, row in read_rows(place)]
    if place.suffix == ".csv" and place.is_file():
        return _of_store(bring_in(place, base, of=of, store=store), of=of, label="topic")
    raise UserError(f"{place} is no pool of finetunes: give a store's folder, a .jsonl of places, or a released index.csv.")


def bring_in(index: Path, base: LoadedDense, *, of: str, store: Path) -> DiffStore:
    """Write what a released index names into a store of ours; called again, go on where it stopped.

    Args:
        index: index.csv, with weight-diffs/ beside it.
        base: the model that all are finetunes of.
        of: its hash or name.
        store: the store's folder.

    Raises:
        UserError: a file is missing, damaged, or not what the index says, or the store holds what another index names.
    """
    found = DiffStore(store)
    wanted = [entry for entry in read_index(index) if entry.split in RELEASED_PARTS]
    for entry, own in zip(wanted, found.entries, strict=False):
        if (Path(entry.path).name, entry.place, entry.topic) != tuple(own.about.get(key) for key in ("file", "place", "topic")):
            raise UserError(f"{store} holds what another index.csv names: give another folder in run=.")
    for path, entries in groupby(wanted[len(found.entries) :], key=lambda entry: entry.path):
        held = load_diffs(_beside(index, path), base.model, base=of)
        for entry in entries:
            if entry.place >= len(held):
                raise UserError(f"{index} names {path}[{entry.place}], which has {len(held)} diffs: get both files anew.")
            check_index(entry, held[entry.place])
            found.add([held[entry.place]], split=RELEASED_PARTS[entry.split])
    return found


def _beside(index: Path, name: str) -> Path:
    places = [index.parent / name, index.parent / "weight-diffs" / Path(name).name]
    return next((place for place in places if place.is_file()), places[-1])


def _of_store(store: DiffStore, *, of: str, label: str) -> list[Labelled]:
    if store.base not in (None, of):
        raise UserError(f"{store.folder} holds diffs of {named(store.base)}, and the base is {named(of)}: give their own base.")
    found = []
    for entry in store.entries:
        if label not in entry.about:
            raise UserError(
                f'The diffs of {store.folder} have no "{label}"{nearest(label, entry.about)}: set label to one of'
                f" {', '.join(sorted(entry.about))}."
            )
        found.append(Labelled(f"{store.folder}/{entry.file}", str(entry.about[label]), partial(store.read, entry), entry.split))
    return found


def _of_row(row: dict[str, Any], base: LoadedDense, *, of: str, where: str) -> Labelled:
    if not {"place", "label"} <= row.keys():
        raise UserError(f'{where} names no finetune: write {{"place": ..., "label": ...}}.')
    place, label, split = str(row["place"]), str(row["label"]), row.get("split")
    if split not in (None, *Part.__members__):
        raise UserError(f'{where} has the split "{split}": write train, validation or test.')
    part = None if split is None else Part[split]
    return Labelled(str(row.get("name", place)), label, partial(load_finetune, place, base, of=of), part)
