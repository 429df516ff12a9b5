"""OpenAI's `beeg_config.json`: what of it shapes the model, what was dropped, what cannot be ignored.

Released files hold keys that the released code does not know, so that it cannot load them. Keys that only training or a kernel
read are dropped and named; a key that would change what the model computes is refused unless it has its default value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from sparse_circuits.errors import UserError, nearest
from sparse_circuits.model import ModelConfig, Positions
from sparse_circuits.model.config import Activation, SiteFractions
from sparse_circuits.run import read_json

CONFIG_FILE = "beeg_config.json"
LOCATIONS = {
    "attn_in": "attn_act_in",
    "attn_q": "attn_q",
    "attn_k": "attn_k",
    "attn_v": "attn_v",
    "attn_out": "attn_resid_delta",
    "mlp_in": "mlp_act_in",
    "mlp_neuron": "mlp_post_act",
    "mlp_out": "mlp_resid_delta",
}
"""Their names of the sites that AbsTopK may stand at, and ours."""
STREAM_LOCATIONS = {"resid_post_attn": "resid_in", "resid_post_mlp": "resid_mid"}
"""Places in the stream itself, behind the sublayer that reads it at our site."""
DROPPED = {
    *("dropout", "dropout_cat_pos_emb", "debug_nans", "tokenizer_name", "grad_checkpointing", "enable_sparse_kernels", "flash"),
    *("learnable_bigram_table", "sinusoidal_cat_pos_emb", "n_embd", "pfrac", "expansion_factor", "expansion_factor_mlp"),
    *("debug_exact_topk", "sparse_matmul_impl", "bigram_table_rank"),
}
"""Keys that change nothing in a loaded model's logits: of training, of kernels, or of how a table came about."""


@dataclass(frozen=True)
class OpenAIConfig:
    """The keys that shape a model, with the released code's defaults."""

    block_size: int = 1024
    vocab_size: int = 50304
    n_layer: int = 12
    n_head: int = 12
    d_head: int | None = None
    d_model: int = 768
    d_mlp: int | None = None
    bias: bool = True
    ln_bias: bool = True
    rms_norm: bool = False
    residual_activation_type: str = "identity"
    activation_type: str = "gelu"
    afrac: float | None = None
    afrac_loctypes: str = "attn_in,attn_out,mlp_in,mlp_out"
    tied_unembed: bool = True
    enable_bigram_table: bool = False
    d_pos_emb: int | None = None
    sink: bool | None = None
    """None: if the checkpoint has them."""

    @property
    def thinned(self) -> list[str]:
        """Where AbsTopK stands, under their names."""
        return [] if self.afrac is None else [each for each in self.afrac_loctypes.split(",") if each]

    @property
    def foreign(self) -> list[str]:
        """What our own format has no word for."""
        found = [] if self.rms_norm else ["LayerNorm"]
        found += [f"a residual {self.residual_activation_type}"] if self.residual_activation_type != "identity" else []
        return found + [f"AbsTopK at {each}" for each in self.thinned if each in STREAM_LOCATIONS]

    def shape(self) -> ModelConfig:
        """Return the shape of our transformer that computes the same."""
        return ModelConfig(
            n_layers=self.n_layer,
            d_model=self.d_model,
            n_ctx=self.block_size,
            d_head=self.d_head or self.d_model // self.n_head,
            n_heads=self.n_head,
            d_mlp=self.d_mlp,
            activation=Activation[self.activation_type],
            positions=Positions.added if self.d_pos_emb is None else Positions.concatenated,
            d_pos=self.d_pos_emb,
            sinks=bool(self.sink),
            bigram=self.enable_bigram_table,
            tied=self.tied_unembed,
            biases=self.bias,
            abs_topk=1.0,
            site_fractions=SiteFractions(**{LOCATIONS[each]: self.afrac for each in self.thinned if each in LOCATIONS}),
        )


def read_config(folder: Path) -> tuple[OpenAIConfig, dict[str, Any]]:
    """Read a model's config, and what of it was dropped.

    Raises:
        UserError: the file is missing or damaged, a value is of the wrong kind, or an unknown key may change the model.
    """
    path = Path(folder) / CONFIG_FILE
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no settings: restore it from where the model was published.")
    return parse_config(values, source=path)


def parse_config(values: Mapping[str, Any], *, source: Path) -> tuple[OpenAIConfig, dict[str, Any]]:
    """Return the keys that shape a model, and those that were dropped.

    Raises:
        UserError: a value is of the wrong kind, or an unknown key may change the model.
    """
    values = {("d_mlp" if key == "n_mlp" else key): value for key, value in values.items()}
    known = {each.name: each for each in fields(OpenAIConfig)}
    kept = {key: value for key, value in values.items() if key in known}
    dropped = {key: value for key, value in values.items() if key not in known}
    for key, value in dropped.items():
        if key not in DROPPED and value not in (None, False, "", 0):
            raise UserError(
                f'{source} sets "{key}" to {value!r}{nearest(key, known)}, which this importer does not know and which may'
                " change the model: see whether a newer version knows it."
            )
    kept = {key: value for key, value in kept.items() if value is not None or known[key].default is None}
    for key, value in kept.items():
        kinds = {"int": int, "bool": bool, "str": str, "float": (int, float)}
        kind = kinds[str(known[key].type).removesuffix(" | None")]
        is_right = value is None or (isinstance(value, kind) and isinstance(value, bool) == (kind is bool))
        if not is_right:
            raise UserError(f'{source} sets "{key}" to {value!r}, which is no {known[key].type}: restore the file.')
    config = OpenAIConfig(**kept)
    odd = [each for each in config.thinned if each not in LOCATIONS and each not in STREAM_LOCATIONS]
    odd += [config.activation_type] if config.activation_type not in Activation.__members__ else []
    odd += [config.residual_activation_type] if config.residual_activation_type not in ("identity", "relu") else []
    if odd:
        raise UserError(f'{source} names "{odd[0]}", which this importer does not know: see whether a newer version does.')
    return config, dropped
