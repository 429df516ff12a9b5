"""The linear maps that a finetune changes: those of a model's blocks; never embeddings, the head, or a tower beside the text.

GPT-2 of `transformers` holds its weights as [in, out] (Conv1D), everyone else as [out, in]. Factors are of the map, not of
how its weight is stored, so they are the same for both.
"""

from __future__ import annotations

from operator import attrgetter
from typing import NamedTuple

from torch import nn

from sparse_circuits.errors import UserError, nearest
from sparse_circuits.model.dense import Dense, HuggingFace

WEIGHT = ".weight"


class LinearMap(NamedTuple):
    """One linear map of a model."""

    module: nn.Module
    n_out: int
    n_in: int
    is_transposed: bool
    """Whether its weight is [in, out]."""


def weights_of(model: nn.Module) -> nn.Module:
    """Return the module by whose names a diff of this model goes: behind our face for Hugging Face's, theirs."""
    return model.lm if isinstance(model, HuggingFace) else model


def linear_map(model: nn.Module, name: str) -> LinearMap:
    """Return the map whose weight has this name.

    Raises:
        UserError: there is no such parameter, or it is no weight of a linear map.
    """
    modules = dict(weights_of(model).named_modules())
    module = modules.get(name.removesuffix(WEIGHT))
    if module is None:
        raise UserError(f'The model has no parameter "{name}"{nearest(name, modules)}: the diff is of another model.')
    found = _as_map(module)
    if found is None or not name.endswith(WEIGHT):
        raise UserError(f"{name} is no weight of a linear map, so a change of it has no factors: give it whole.")
    return found


def block_maps(model: Dense) -> dict[str, LinearMap]:
    """Return every linear map of a model's blocks, by the name of its weight.

    Source: Goel et al. 2025, whose code wraps these, and in GPT-2, by its rule of names, none at all.
    """
    root = weights_of(model)
    blocks = root.layers if root is model else attrgetter(model.family.layers)(root)
    inside = {module for block in blocks for module in block.modules()}
    maps = {f"{name}{WEIGHT}": _as_map(module) for name, module in root.named_modules() if module in inside}
    return {name: found for name, found in maps.items() if found is not None}


def _as_map(module: nn.Module) -> LinearMap | None:
    if isinstance(module, nn.Linear):
        return LinearMap(module, *module.weight.shape, is_transposed=False)
    if type(module).__name__ == "Conv1D":
        return LinearMap(module, *reversed(module.weight.shape), is_transposed=True)
    return None
