"""OpenAI's `final_model.pt` as our transformer, every option of their configuration computed exactly.

What our own models do not have is put into the loaded one alone: LayerNorm, ReLU or AbsTopK on the stream behind a sublayer. A
constant that they add to all logits becomes part of the bigram table. Sinks are computed whatever their flash flag said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.interop.openai.config import STREAM_LOCATIONS, OpenAIConfig, read_config
from sparse_circuits.interop.openai.tokenizer import load_tinypython
from sparse_circuits.interop.pickled import load_safely
from sparse_circuits.kernels.abs_topk import abs_topk
from sparse_circuits.model import Transformer, save_model
from sparse_circuits.sparsity.measure import l0_counts

CHECKPOINT_FILE = "final_model.pt"
LAYER_NORM_EPS = 1e-5
TOLERANCE = 0.1
"""By how much, relatively, the nonzeros may differ from those that a model's name promises (names are rounded)."""


class LayerNorm(nn.Module):
    """Their norm of models without RMSNorm."""

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def forward(
        self, x: Float[Tensor, "*rows width"], rms: Float[Tensor, "*rows 1"] | None = None
    ) -> Float[Tensor, "*rows width"]:
        """Normalise x; there is no root mean square to replace."""
        if rms is not None:
            raise UserError("A model with LayerNorm divides by no root mean square: leave its rms sites alone.")
        return F.layer_norm(x, self.gain.shape, self.gain, self.bias, LAYER_NORM_EPS)


@dataclass(frozen=True)
class Imported:
    """A model of OpenAI's."""

    model: Transformer
    config: OpenAIConfig
    dropped: dict[str, Any]
    """Keys of their config that were not needed."""
    nonzeros: dict[str, int]
    """Nonzero entries of every matrix."""
    tokenizer: Tokenizer | None
    """Where vocab.bpe and encoder.json stand beside the checkpoint."""

    def save(self, folder: Path) -> None:
        """Write the model in our format.

        Raises:
            UserError: it has parts that our format has no word for, or came without its tokenizer.
        """
        if self.config.foreign:
            parts = ", ".join(self.config.foreign)
            raise UserError(f"This model has {parts}, which our format does not hold: keep OpenAI's files.")
        if self.tokenizer is None:
            raise UserError("A model of ours carries its tokenizer: put OpenAI's vocab.bpe and encoder.json into the folder.")
        save_model(self.model, folder, tokenizer=self.tokenizer.to_json())

    def describe(self) -> str:
        """Return what was loaded, what was dropped, and the nonzeros of every matrix, a line each."""
        lines = [f"{self.config.n_layer} layers of width {self.config.d_model}, {sum(self.nonzeros.values()):,} nonzeros"]
        lines += [f"dropped {key} = {value!r}" for key, value in self.dropped.items()]
        return "\n".join([*lines, *(f"{name}: {count:,} nonzeros" for name, count in self.nonzeros.items())])


def load_openai(folder: Path) -> Imported:
    """Load a model of circuit_sparsity from a folder with beeg_config.json and final_model.pt.

    Args:
        folder: named as it was published, if its nonzeros are to be held against its name.

    Raises:
        UserError: a file is missing, damaged, holds code, or does not fit the others.
    """
    folder = Path(folder)
    config, dropped = read_config(folder)
    state = read_state(folder / CHECKPOINT_FILE)
    if config.sink is None:  # so in released files, whose models have sinks
        config = replace(config, sink=any(name.endswith("sink_logit") for name in state))
    # A constant on all logits becomes part of the bigram table, which then has to be there.
    has_constant = LOGITS_BIAS in state and bool(state[LOGITS_BIAS].count_nonzero())
    model = build(config, bigram=config.enable_bigram_table or has_constant)
    _fill(model, config, state, source=folder / CHECKPOINT_FILE)
    nonzeros = {name: count for name, count in l0_counts(model).items() if name.endswith(".weight")}
    check_name(folder.name, sum(nonzeros.values()))
    tokenizer = load_tinypython(folder, d_vocab=config.vocab_size) if (folder / "encoder.json").exists() else None
    return Imported(model.eval().requires_grad_(False), config, dropped, nonzeros, tokenizer)


def read_state(path: Path) -> dict[str, Tensor]:
    """Read a bare state dict.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors by name.
    """
    state = load_safely(path)
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise UserError(f"{path} is not a dictionary of tensors by name: give a final_model.pt as it was published.")
    return state


def build(config: OpenAIConfig, *, bigram: bool) -> Transformer:
    """Return our transformer with the parts that this configuration asks for, not yet filled."""
    model = Transformer(replace(config.shape(), bigram=bigram), d_vocab=config.vocab_size)
    if not config.rms_norm:
        model.norm = LayerNorm(config.d_model, bias=config.ln_bias)
        for _, sublayer in model.sublayers():
            sublayer.reader.norm = LayerNorm(config.d_model, bias=config.ln_bias)
            if config.d_pos_emb is not None:
                sublayer.reader.position_norm = LayerNorm(config.d_pos_emb, bias=config.ln_bias)
    model.between = _between(config)
    return model


def _between(config: OpenAIConfig) -> Callable[[str, Tensor], Tensor] | None:
    """Return what the stream goes through behind the sublayer at a site; None: nothing."""
    places = {STREAM_LOCATIONS[each] for each in config.thinned if each in STREAM_LOCATIONS}
    if config.residual_activation_type == "identity" and not places:
        return None

    def between(site: str, stream: Tensor) -> Tensor:
        stream = stream.relu() if config.residual_activation_type == "relu" else stream
        is_thinned = site.partition(".")[2] in places
        return abs_topk(stream, int(config.afrac * config.d_model)) if is_thinned else stream

    return between


PARTS = {
    "ln_1": "attn.reader.norm",
    "ln_2": "mlp.reader.norm",
    "ln_p1": "attn.reader.position_norm",
    "ln_p2": "mlp.reader.position_norm",
    "attn.c_attn": "attn.qkv",
    "attn.c_proj": "attn.out",
    "mlp.c_fc": "mlp.into",
    "mlp.c_proj": "mlp.out",
}
"""Their modules of a layer and ours."""
TOP = {
    "transformer.wte.weight": "embed.weight",
    "transformer.wpe.weight": "positions.table",
    "transformer.ln_f.weight": "norm.gain",
    "transformer.ln_f.bias": "norm.bias",
    "lm_head.weight": "unembed.weight",
    "bigram_table": "bigram",
}
LOGITS_BIAS = "final_logits_bias"


def our_name(theirs: str) -> str | None:
    """Return the name of our parameter for a key of theirs; None: it is none (a causal mask)."""
    if theirs in TOP:
        return TOP[theirs]
    match = re.fullmatch(r"transformer\.h\.(\d+)\.(.+)\.(weight|bias)", theirs)
    if match and match[2] in PARTS:
        part = PARTS[match[2]]
        kind = "gain" if part.endswith("norm") and match[3] == "weight" else match[3]
        return f"layers.{match[1]}.{part}.{kind}"
    if match := re.fullmatch(r"transformer\.h\.(\d+)\.attn\.attn_imp\.sink_logit", theirs):
        return f"layers.{match[1]}.attn.sink"
    if re.fullmatch(r"transformer\.h\.\d+\.attn\.bias", theirs):
        return None
    raise UserError(f'The checkpoint has a key "{theirs}" , which no model of circuit_sparsity has: give one of those.')


@torch.no_grad()
def _fill(model: Transformer, config: OpenAIConfig, state: Mapping[str, Tensor], *, source: Path) -> None:
    """Copy a state dict into a built model.

    Raises:
        UserError: a key is missing or unexpected, or a tensor has another shape.
    """
    state = dict(state)
    bias = state.pop(LOGITS_BIAS, None)
    own = dict(model.named_parameters(remove_duplicate=False))
    given = {name: (key, tensor) for key, tensor in state.items() if (name := our_name(key)) is not None}
    expected = own.keys() - ({"bigram"} if not config.enable_bigram_table else set())
    if odd := sorted(expected - given.keys()):
        raise UserError(f"{source} lacks {odd[0]} (our name), which its configuration asks for: are the two of one model?")
    if odd := sorted(given.keys() - expected):
        raise UserError(f"{source} has {given[odd[0]][0]}, which its configuration does not ask for: are the two of one model?")
    for name, (key, tensor) in given.items():
        if own[name].shape != tensor.shape:
            raise UserError(
                f"{source} has {key} of shape {list(tensor.shape)}, and its configuration asks for {list(own[name].shape)}: are"
                " the two of one model?"
            )
        own[name].copy_(tensor)
    if bias is not None and bias.shape != (config.vocab_size,):
        raise UserError(f"{source} has {LOGITS_BIAS} of shape {list(bias.shape)}, not [{config.vocab_size}]: restore it.")
    if model.bigram is not None and not config.enable_bigram_table:
        model.bigram.zero_()
    if model.bigram is not None and bias is not None:
        model.bigram += bias


def check_name(name: str, n_nonzero: int) -> None:
    """Refuse a model whose nonzeros are not those that its published name promises (`..._3.7Mnonzero_...`).

    Raises:
        UserError: they differ by more than a tenth.
    """
    match = re.search(r"([\d.]+)Mnonzero", name)
    if match and abs(n_nonzero / (float(match[1]) * 1e6) - 1) > TOLERANCE:
        raise UserError(
            f"{name} promises {match[1]} million nonzeros, and the checkpoint has {n_nonzero / 1e6:.3f} million: it is another"
            " model's."
        )
