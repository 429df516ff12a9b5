"""Dense models behind one face: our own transformer, or a causal language model of Hugging Face's `transformers`.

A block of a pre-norm transformer is, twice over, x + sublayer(norm(x)). Families name these parts differently, and some
normalise what a sublayer writes; FAMILIES holds the names. The parts of each block are called from here, so that the residual
stream before every sublayer, and what the sublayer reads, can be tapped, and a pass can start in the middle. Embedding,
positions, masks and the sublayers themselves stay the library's. Weights are frozen.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparse_circuits.errors import UserError, nearest
from sparse_circuits.model.layout import only
from sparse_circuits.model.sites import FINAL, check_start, residual_sites
from sparse_circuits.model.taps import NO_TAPS, Taps, tapped
from sparse_circuits.model.transformer import Transformer


class Family(NamedTuple):
    """Where a family of models keeps the parts of its blocks."""

    layers: str
    attn_norm: str
    attn: str
    mlp_norm: str
    mlp: str
    final_norm: str
    attn_out_norm: str | None = None
    """Of what attention writes, before it is added to the stream."""
    mlp_out_norm: str | None = None
    gain_offset: float = 0.0
    """What a norm adds to its weight to make the gain."""


_LLAMA = Family("model.layers", "input_layernorm", "self_attn", "post_attention_layernorm", "mlp", "model.norm")
_GEMMA_2 = _LLAMA._replace(
    attn_out_norm="post_attention_layernorm",
    mlp_norm="pre_feedforward_layernorm",
    mlp_out_norm="post_feedforward_layernorm",
    gain_offset=1.0,
)
FAMILIES = {
    "gpt2": Family("transformer.h", "ln_1", "attn", "ln_2", "mlp", "transformer.ln_f"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "gemma": _LLAMA._replace(gain_offset=1.0),
    "gemma2": _GEMMA_2,
    "gemma3_text": _GEMMA_2,
    "gemma3": _GEMMA_2._replace(layers="model.language_model.layers", final_norm="model.language_model.norm"),
}
"""By Hugging Face's `model_type`; of a model that sees as well, the part that reads."""


class Shape(NamedTuple):
    """What bridges need to know of a dense model; the names are those of our own ModelConfig."""

    n_layers: int
    d_model: int
    n_ctx: int


class _Sublayer(NamedTuple):
    site: str
    """Of the residual stream before it."""
    reads: str
    """The site of what it reads, behind its norm."""
    norm: nn.Module
    run: nn.Module
    out_norm: nn.Module | None


class _Pass(NamedTuple):
    """One forward pass of ours."""

    taps: Taps = NO_TAPS
    start: int = 0
    """The sublayer that it starts with."""
    value: Tensor | None = None
    """The residual stream there; None: what the embedding gives."""


class HuggingFace(nn.Module):
    """A causal language model of `transformers`, with our sites, taps and passes from the middle; frozen.

    Args:
        lm: the model, of one of FAMILIES.
        d_vocab: token ids of its tokenizer, where its logits are padded to more; None: all.

    Raises:
        UserError: the family's sublayers are not known.
    """

    def __init__(self, lm: nn.Module, *, d_vocab: int | None = None) -> None:
        super().__init__()
        kind = lm.config.model_type
        if kind not in FAMILIES:
            raise UserError(
                f'The sublayers of the family "{kind}" are not known{nearest(kind, FAMILIES)}: '
                f"use a model of {', '.join(FAMILIES)}, or add its names to FAMILIES in sparse_circuits/model/dense.py."
            )
        self.lm, self.family = lm.eval().requires_grad_(False), FAMILIES[kind]
        shape = lm.config.get_text_config()
        self.config = Shape(shape.num_hidden_layers, shape.hidden_size, shape.max_position_embeddings)
        self.d_vocab = d_vocab or shape.vocab_size
        self._pass = _Pass()
        self._sublayers = [each for layer in range(self.config.n_layers) for each in self._find_sublayers(layer)]
        self._sites = {FINAL} | {site for each in self._sublayers for site in (each.site, each.reads)}
        self._final_norm = attrgetter(self.family.final_norm)(lm)
        self._final_norm.register_forward_pre_hook(lambda _, inputs: (tapped(self._pass.taps, FINAL, inputs[0]),))
        for layer, block in enumerate(self._blocks()):
            own = type(block).forward.__get__(block)  # whatever stands there: a model may be given to this class twice
            block.forward = partial(self._block, layer, inspect.signature(own))

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        *,
        taps: Taps | None = None,
        at: Int[Tensor, " batch *n_at"] | None = None,
    ) -> Float[Tensor, "batch *pos d_vocab"]:
        """Return next-token logits; arguments and errors as for our own transformer."""
        return self._run(_Pass(taps or NO_TAPS), tokens, at=at)

    def run_from(
        self,
        site: str,
        value: Float[Tensor, "n_starting pos d_model"],
        *,
        tokens: Int[Tensor, "batch pos"],
        taps: Taps | None = None,
        at: Int[Tensor, " batch *n_at"] | None = None,
    ) -> Float[Tensor, "batch *pos d_vocab"]:
        """Return the logits of a forward pass that starts with `value` as the residual stream at `site`.

        Args:
            site: `{i}.resid_in`, `{i}.resid_mid` or `final_resid`.
            value: the residual stream there.
            tokens: of all rows, those included that a tap on a later site of the stream adds to it.

        Raises:
            UserError: the site is not one of the residual stream.
        """
        check_start(site, self.config)
        run = _Pass(taps or NO_TAPS, residual_sites(self.config).index(site), value)
        if site == FINAL:
            with self._passing(run):
                return self._logits(self._final_norm(value), at)
        # What the embedding gives is not used: one row is enough, and masks of one row fit every number of rows.
        return self._run(run, tokens[:1], at=at)

    def norm_before(self, site: str) -> nn.Module:
        """Return the norm that reads the residual stream at a site."""
        return {FINAL: self._final_norm, **{each.site: each.norm for each in self._sublayers}}[site]

    def _run(self, run: _Pass, tokens: Tensor, *, at: Tensor | None) -> Tensor:
        if tokens.shape[1] > self.config.n_ctx:
            raise UserError(f"{tokens.shape[1]} tokens do not fit the model's n_ctx = {self.config.n_ctx}: shorten the text.")
        for site in run.taps:
            if site not in self._sites:
                raise UserError(f'The dense model has no site "{site}"{nearest(site, self._sites)} to tap.')
        with self._passing(run):
            return self._logits(self.lm.base_model(input_ids=tokens, use_cache=False).last_hidden_state, at)

    def _logits(self, hidden: Tensor, at: Tensor | None) -> Tensor:
        logits = self.lm.lm_head(hidden if at is None else only(hidden, at))[..., : self.d_vocab]
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if cap := getattr(self.lm.config.get_text_config(), "final_logit_softcapping", None):
            logits = cap * (logits / cap).tanh()
        return logits if at is None else logits.reshape(*at.shape, -1)

    def _blocks(self) -> nn.ModuleList:
        return attrgetter(self.family.layers)(self.lm)

    def _find_sublayers(self, layer: int) -> Iterator[_Sublayer]:
        names, block = self.family, self._blocks()[layer]
        for at, kind, norm, run, out_norm in (
            ("resid_in", "attn", names.attn_norm, names.attn, names.attn_out_norm),
            ("resid_mid", "mlp", names.mlp_norm, names.mlp, names.mlp_out_norm),
        ):
            after = out_norm and getattr(block, out_norm)
            yield _Sublayer(f"{layer}.{at}", f"{layer}.{kind}.act_in", getattr(block, norm), getattr(block, run), after)

    def _block(self, layer: int, signature: inspect.Signature, *inputs: object, **named: object) -> Tensor:
        """Run the sublayers of one block that are not before the pass's start."""
        bound = signature.bind(*inputs, **named)
        said = {key: value for key, value in bound.arguments.items() if key != "hidden_states"}
        said |= said.pop("kwargs", {})
        x, run = bound.arguments["hidden_states"], self._pass
        for number, own in ((2 * layer, said), (2 * layer + 1, {})):  # attention is told of positions and masks
            if number < run.start:
                continue
            if number == run.start and run.value is not None:
                x = run.value
            x = self._sublayer(self._sublayers[number], x, own)
        return x

    def _sublayer(self, sublayer: _Sublayer, x: Tensor, said: dict[str, object]) -> Tensor:
        x = tapped(self._pass.taps, sublayer.site, x)
        written = sublayer.run(tapped(self._pass.taps, sublayer.reads, sublayer.norm(x)), **said)
        written = written[0] if isinstance(written, tuple) else written  # attention returns its patterns, too
        return x + (written if sublayer.out_norm is None else sublayer.out_norm(written))

    @contextmanager
    def _passing(self, run: _Pass) -> Iterator[None]:
        self._pass = run
        try:
            yield
        finally:
            self._pass = _Pass()


Dense = Transformer | HuggingFace
"""What a bridge leads to."""


class Norm(NamedTuple):
    """The norm that reads the residual stream at a site."""

    gain: Float[Tensor, " d_model"]
    is_centred: bool
    """Whether it subtracts the mean over channels, as LayerNorm does."""


def norm_at(model: Dense, site: str) -> Norm:
    """Return the norm that reads the residual stream at a site."""
    if isinstance(model, HuggingFace):
        norm = model.norm_before(site)
        return Norm(norm.weight + model.family.gain_offset, isinstance(norm, nn.LayerNorm))
    norms = {at: sublayer.reader.norm for at, sublayer in model.sublayers()}
    return Norm({FINAL: model.norm, **norms}[site].gain, False)
