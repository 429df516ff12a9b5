"""Site names of other projects."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from einops import rearrange
from torch import Tensor

from sparse_circuits.model.config import ModelConfig
from sparse_circuits.model.sites import FINAL, FINAL_RMS

TRANSFORMER_LENS = {
    "resid_in": "hook_resid_pre",
    "attn.rms": "ln1.hook_scale",
    "attn.q": "attn.hook_q",
    "attn.k": "attn.hook_k",
    "attn.v": "attn.hook_v",
    "attn.y": "attn.hook_z",
    "attn.resid_delta": "hook_attn_out",
    "resid_mid": "hook_resid_mid",
    "mlp.rms": "ln2.hook_scale",
    "mlp.post_act.pre": "mlp.hook_pre",
    "mlp.post_act": "mlp.hook_post",
    "mlp.resid_delta": "hook_mlp_out",
}
"""Kinds of sites that mean the same there; its normalised activations lack the gain, and so have no counterpart here."""
OF_HEADS = {"attn.q", "attn.k", "attn.v", "attn.y"}


class Names(Enum):
    """Under which names recorded values are returned."""

    published = "published"
    """Those of the released models, as everywhere here: `3.attn.q`."""
    transformer_lens = "transformer_lens"
    """TransformerLens' cache: `blocks.3.attn.hook_q`, heads split."""


def in_transformer_lens(values: Mapping[str, Tensor], config: ModelConfig) -> dict[str, Tensor]:
    """Return recorded values under TransformerLens' names; sites that it does not have are left out."""
    found = {}
    for site, value in values.items():
        if site == FINAL:
            found[f"blocks.{config.n_layers - 1}.hook_resid_post"] = value
        elif site == FINAL_RMS:
            found["ln_final.hook_scale"] = value
        else:
            layer, _, kind = site.partition(".")
            if kind in OF_HEADS:
                value = rearrange(value, "batch pos (head d_head) -> batch pos head d_head", d_head=config.d_head)
            if kind in TRANSFORMER_LENS:
                found[f"blocks.{layer}.{TRANSFORMER_LENS[kind]}"] = value
    return found
