"""Finetunes from wherever they are, as weight diffs of their base."""

from __future__ import annotations

from pathlib import Path

from sparse_circuits.bridges.load import LoadedDense, load_dense
from sparse_circuits.diffs.apply import check_fits
from sparse_circuits.diffs.weight_diff import WeightDiff, diff_between, named
from sparse_circuits.errors import UserError
from sparse_circuits.interop.peft import CONFIG_FILE, load_peft
from sparse_circuits.model import Transformer


def load_finetune(place: str, base: LoadedDense, *, of: str) -> WeightDiff:
    """Return what a finetune changed.

    Args:
        place: a diff of ours (.safetensors), a folder of PEFT's, a run folder, or a folder or hub name of Hugging Face's.
        base: the model before, with its tokenizer.
        of: the base's hash or name.

    Raises:
        UserError: there is none, or it is of another base.
    """
    path = Path(place)
    if path.suffix == ".safetensors" and path.is_file():
        diff = WeightDiff.load(path)
        # One of Hugging Face's is known by its place, and may move.
        if isinstance(base.model, Transformer) and diff.base != of:
            raise UserError(f"{place} is a diff of {named(diff.base)}, and the base is {named(of)}: give its own base.")
    elif (path / CONFIG_FILE).is_file():
        diff = load_peft(path, base=of)
    else:
        tuned = load_dense(place)
        if tuned.tokenizer.hash != base.tokenizer.hash:
            raise UserError(
                f"{place} has another tokenizer than its base: their tokens cannot be compared, so give a finetune of it."
            )
        diff = diff_between(base.model, tuned.model, of=of, about={"source": place})
        if not diff.changes:
            raise UserError(f"{place} has the weights of its base: give a finetune of it.")
    check_fits(diff, base.model)
    return diff
