"""The one transformer: GPT-2's wiring, RMSNorm, AbsTopK at every node site, attention sinks, a bigram table.

Source: Gao et al. 2025, appendix A.1. Every site is a tap point, so recording, ablating and steering need no second model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparse_circuits.errors import UserError, nearest
from sparse_circuits.kernels.next_token_loss import next_token_loss
from sparse_circuits.model.attention import Attention
from sparse_circuits.model.config import ModelConfig, Positions
from sparse_circuits.model.layout import current_layout, only
from sparse_circuits.model.mlp import MLP
from sparse_circuits.model.norm import RMSNorm, replaced_rms
from sparse_circuits.model.positions import position_table
from sparse_circuits.model.sites import FINAL, FINAL_RMS, Link, all_sites, check_start, links
from sparse_circuits.model.taps import NO_TAPS, Taps, tapped


class Layer(nn.Module):
    """An attention and an MLP sublayer."""

    def __init__(self, config: ModelConfig, *, layer: int) -> None:
        super().__init__()
        self.attn = Attention(config, layer=layer)
        self.mlp = MLP(config, layer=layer)


class Transformer(nn.Module):
    """A causal language model whose every node site can be tapped.

    Args:
        config: the shape.
        d_vocab: token ids of the tokenizer it is trained with.
    """

    def __init__(self, config: ModelConfig, *, d_vocab: int) -> None:
        super().__init__()
        self.config, self.d_vocab = config, d_vocab
        self.embed = nn.Embedding(d_vocab, config.d_model)
        self.positions = position_table(config)
        self.layers = nn.ModuleList(Layer(config, layer=layer) for layer in range(config.n_layers))
        self.norm = RMSNorm(config.d_model)
        self.unembed = nn.Linear(config.d_model, d_vocab, bias=False)
        if config.tied:
            self.unembed.weight = self.embed.weight
        self.bigram = nn.Parameter(torch.empty(d_vocab, d_vocab)) if config.bigram else None
        self.between: Callable[[str, Tensor], Tensor] | None = None
        """What the stream goes through behind the sublayer at a residual site; None, as in all models of ours: nothing."""
        self._sites = frozenset(all_sites(config))
        self._initialise()

    @torch.no_grad()
    def _initialise(self) -> None:
        """N(0, 0.02) for matrices, less for the two that write to the stream, zero biases, U(0, 0.02) for the bigram."""
        for name, parameter in self.named_parameters():
            if name == "bigram":
                parameter.uniform_(0, 0.02)
            elif name.endswith("bias"):
                parameter.zero_()
            elif parameter.ndim == 2:
                writes = name.endswith("out.weight")
                parameter.normal_(0, 0.02 / math.sqrt(2 * self.config.n_layers) if writes else 0.02)

    def forward(
        self,
        tokens: Int[Tensor, "batch pos"],
        *,
        taps: Taps | None = None,
        at: Int[Tensor, " batch *n_at"] | None = None,
    ) -> Float[Tensor, "batch *pos d_vocab"]:
        """Return next-token logits.

        Args:
            tokens: token ids, at most n_ctx a row.
            taps: for each tapped site a function from its value (batch, pos, width) to a value of the same shape.
            at: read the logits at this position of each row only, or at these, which is much cheaper; None: at every position.
                From the last MLP on, nothing else is computed, and taps see values (batch, 1 or n_at, width); under a layout,
                whose ends these have to be, from the last attention's output on.

        Raises:
            UserError: more tokens than n_ctx, or a tap on a site that does not exist.
        """
        return self.read_out(self.residual(tokens, taps=taps, at=at), tokens, at=at, taps=taps)

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
            tokens: still needed by the bigram table; of all rows, those included that a tap on a later site of the stream adds.

        Raises:
            UserError: the site is not one of the residual stream.
        """
        check_start(site, self.config)
        self._check(tokens, taps)
        residual = self._stream(value, taps or NO_TAPS, start=site, at=at)
        return self.read_out(residual, tokens, at=at, taps=taps)

    def residual(
        self,
        tokens: Int[Tensor, "batch pos"],
        *,
        taps: Taps | None = None,
        until: str = FINAL,
        at: Int[Tensor, " batch *n_at"] | None = None,
    ) -> Float[Tensor, "batch pos_or_n_at d_model"]:
        """Return the residual stream before the last norm, or, with `until`, behind the sublayer that holds that site.

        With `at`, it is that of these positions of each row.
        """
        self._check(tokens, taps)
        x = self.embed(tokens)
        if self.config.positions is Positions.added:
            x = x + self.positions(tokens.shape[1])
        return self._stream(x, taps or NO_TAPS, until=until, at=at)

    def _stream(
        self, x: Tensor, taps: Taps, *, start: str | None = None, until: str = FINAL, at: Tensor | None = None
    ) -> Tensor:
        """Run the sublayers from the residual site `start` to the one that holds the site `until`."""
        beside = self.positions(x.shape[1]) if self.config.position_width else None
        started, last = start is None, self.config.n_layers - 1
        for site, sublayer in self.sublayers():
            started = started or site == start
            if started:
                x = tapped(taps, site, x)
                if until == site:
                    return x
                # Behind the last keys and values no position looks back at another.
                if at is not None and site == f"{last}.resid_in" and current_layout() is not None:
                    written = sublayer(x, beside, taps, at_ends=True)
                    x, beside, at = only(x, at), _only_there(beside, at), None
                else:
                    if at is not None and site == f"{last}.resid_mid":
                        x, beside, at = only(x, at), _only_there(beside, at), None
                    written = sublayer(x, beside, taps)
                x = x + written if self.between is None else self.between(site, x + written)
                if until.startswith(sublayer.site):
                    return x
        return tapped(taps, FINAL, x if at is None else only(x, at))

    def sublayers(self) -> Iterator[tuple[str, Attention | MLP]]:
        """Yield every sublayer with the site of the residual stream before it."""
        for index, layer in enumerate(self.layers):
            yield f"{index}.resid_in", layer.attn
            yield f"{index}.resid_mid", layer.mlp

    def read_out(
        self,
        residual: Float[Tensor, "batch pos_or_n_at d_model"],
        tokens: Int[Tensor, "batch pos"],
        *,
        at: Int[Tensor, " batch *n_at"] | None = None,
        taps: Taps | None = None,
    ) -> Float[Tensor, "batch *pos d_vocab"]:
        """Return the logits that the final residual stream and the current tokens give, in float32 or wider.

        With `at`, the stream is that of these positions of each row.
        """
        logits = self.unembed(self.norm(residual, replaced_rms(residual, taps or NO_TAPS, FINAL_RMS)))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if at is not None:
            logits, tokens = logits.reshape(*at.shape, -1), tokens.gather(1, at.view(len(at), -1)).reshape(at.shape)
        # Not self.bigram[tokens], whose gradient several threads add up in any order.
        return logits if self.bigram is None else logits + F.embedding(tokens, self.bigram)

    def loss(
        self, tokens: Int[Tensor, "batch pos"], targets: Int[Tensor, "batch pos"], *, taps: Taps | None = None
    ) -> Float[Tensor, ""]:
        """Return the mean next-token cross-entropy, in nats, without ever holding all logits.

        Args:
            taps: as for a forward pass; not on the last norm.
        """
        hidden = self.norm(self.residual(tokens, taps=taps)).flatten(0, 1)
        if torch.is_autocast_enabled(hidden.device.type):
            hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
        return next_token_loss(hidden, self.unembed.weight, targets.flatten(), self.bigram, tokens.flatten())

    def link_weight(self, link: Link) -> Float[Tensor, "n_target n_source"]:
        """Return the matrix that joins two node sites, as a view: row = target channel, column = source channel."""
        if link not in links(self.config):
            raise UserError(f"No weight joins {link.source} to {link.target}: see sites.links(config) for those that exist.")
        layer, sublayer, kind = link.target.split(".")
        part = getattr(self.layers[int(layer)], sublayer)
        if kind in ("q", "k", "v"):
            return part.qkv.weight.chunk(3)["qkv".index(kind)]
        return part.into.weight if kind == "post_act" else part.out.weight

    def _check(self, tokens: Tensor, taps: Taps | None) -> None:
        layout = current_layout()
        n_tokens = tokens.shape[1] if layout is None else int(layout.places.max()) + 1
        if n_tokens > self.config.n_ctx:
            raise UserError(f"{n_tokens} tokens do not fit the model's n_ctx = {self.config.n_ctx}: shorten the text.")
        for site in taps or ():
            if site not in self._sites:
                raise UserError(f'The model has no site "{site}"{nearest(site, self._sites)} to tap.')


def _only_there(beside: Tensor | None, at: Tensor) -> Tensor | None:
    return None if beside is None else only(beside.expand(len(at), *beside.shape[-2:]), at)
