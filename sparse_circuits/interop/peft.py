"""LoRA adapters in PEFT's folders as weight diffs, and weight diffs as such folders; the library itself is not needed.

A folder has adapter_config.json and adapter_model.safetensors, whose tensors are `base_model.model.MODULE.lora_A.weight`
(rank, in) and `...lora_B.weight` (out, rank), the same for nn.Linear and for GPT-2's Conv1D. The scale is alpha / rank, or
alpha / sqrt(rank) with rsLoRA; in a diff it is part of `up`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff
from sparse_circuits.errors import UserError
from sparse_circuits.run import replacing, write_json

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
KEY = re.compile(rf"{re.escape(PREFIX)}(?P<module>.+)\.lora_(?P<part>[AB])(\.default)?\.weight")
REFUSED = {
    "use_dora": "DoRA scales columns as well",
    "modules_to_save": "it replaces whole modules",
    "layer_replication": "it adds layers",
}


def load_peft(folder: Path, *, base: str | None = None) -> WeightDiff:
    """Read a LoRA adapter.

    Args:
        folder: with adapter_config.json and adapter_model.safetensors.
        base: hash or name of the base; None: what the config says.

    Raises:
        UserError: a file is missing or damaged, or the adapter is of a kind that is no plain LoRA.
    """
    folder = Path(folder)
    config = _read_config(folder)
    factors: dict[str, dict[str, Tensor]] = {}
    for key, tensor in _read_weights(folder).items():
        if (found := KEY.fullmatch(key)) is None:
            raise UserError(f"{folder} has a tensor {key}, which is no factor of a linear map: only plain LoRA is read.")
        factors.setdefault(found["module"], {})[found["part"]] = tensor
    changes = {}
    for module, own in factors.items():
        if own.keys() != {"A", "B"} or own["A"].shape[0] != own["B"].shape[1]:
            raise UserError(f"{folder} lacks a factor of {module}, or its two do not fit: get the adapter anew.")
        changes[f"{module}.weight"] = LowRank(own["B"] * _scale(config, module, own["A"].shape[0]), own["A"])
    if not changes:
        raise UserError(f"{folder} has no factors: get the adapter anew.")
    return WeightDiff(changes, base or config.get("base_model_name_or_path") or "unknown", {"source": str(folder)})


def save_peft(diff: WeightDiff, folder: Path, *, is_conv1d: bool = False) -> None:
    """Write a diff of low rank as an adapter whose scale is 1.

    Args:
        diff: by the names of the base's weights.
        folder: made if it is not there.
        is_conv1d: whether the base holds weights as [in, out], as GPT-2 of `transformers` does.

    Raises:
        UserError: the diff changes something without factors, or the folder could not be written.
    """
    if not diff.is_low_rank:
        raise UserError(
            "PEFT's adapters hold factors alone, and this diff has a change without: save the finetuned model instead."
        )
    ranks = {name.removesuffix(".weight"): change.rank for name, change in diff.changes.items()}
    most = max(ranks.values())
    others = {module: rank for module, rank in ranks.items() if rank != most}
    tensors = {}
    for name, change in diff.changes.items():
        module = name.removesuffix(".weight")
        tensors[f"{PREFIX}{module}.lora_A.weight"] = change.down.detach().contiguous()
        tensors[f"{PREFIX}{module}.lora_B.weight"] = change.up.detach().contiguous()
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": diff.base,
        "r": most,
        "lora_alpha": most,
        "rank_pattern": others,
        "alpha_pattern": others,
        "target_modules": sorted(ranks),
        "fan_in_fan_out": is_conv1d,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
    }
    folder = Path(folder)
    with replacing(folder / WEIGHTS_FILE) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    write_json(folder / CONFIG_FILE, config)


def _read_config(folder: Path) -> Mapping[str, Any]:
    path = folder / CONFIG_FILE
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path} cannot be read: give the folder of a PEFT adapter.") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON: get the adapter anew.") from error
    if not isinstance(config, dict) or config.get("peft_type") != "LORA":
        raise UserError(f"{path} is not of a LoRA adapter: other kinds have no two factors.")
    for key, why in REFUSED.items():
        if config.get(key):
            raise UserError(f"{path} sets {key}, and {why}: only plain LoRA is read.")
    if config.get("bias", "none") != "none" or config.get("lora_bias"):
        raise UserError(f"{path} trains biases as well: only plain LoRA is read.")
    return config


def _read_weights(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise UserError(f"{path} does not exist: save the adapter with safe_serialization=True.")
    try:
        return load_file(path)
    except (SafetensorError, ValueError) as error:
        raise UserError(f"{path} is truncated or no safetensors file ({error}): get the adapter anew.") from error


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return what a module's product is multiplied by; a pattern means the end of a module's name, as in the library."""
    patterns = config.get("alpha_pattern") or {}
    own = [alpha for pattern, alpha in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)]
    alpha = own[0] if own else config.get("lora_alpha", 8)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
