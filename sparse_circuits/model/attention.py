"""The attention sublayer: norm, sparse q, k and v, attention with a sink, and what it writes to the stream."""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from sparse_circuits.kernels.abs_topk import abs_topk
from sparse_circuits.kernels.sink_attention import sink_attention
from sparse_circuits.model.config import ModelConfig
from sparse_circuits.model.layout import current_layout, only
from sparse_circuits.model.linear import Linear, linear
from sparse_circuits.model.reader import Reader
from sparse_circuits.model.taps import Taps, held, kept_by, tapped


class Attention(nn.Module):
    """One attention sublayer; the rows of `qkv` are all queries, all keys, all values, head after head."""

    def __init__(self, config: ModelConfig, *, layer: int) -> None:
        super().__init__()
        self.site = f"{layer}.attn"
        self.n_heads = config.heads
        self.reader = Reader(config, site=self.site)
        self.qkv = Linear(config.d_read, 3 * config.d_attn, bias=config.biases)
        self.out = Linear(config.d_attn, config.d_model, bias=config.biases)
        self.sink = nn.Parameter(torch.zeros(self.n_heads)) if config.sinks else None
        self.kept = [config.survivors(f"attn.{name}", config.d_attn) for name in "qkv"]
        self.kept_out = config.survivors("attn.resid_delta", config.d_model)

    def forward(
        self, residual: Float[Tensor, "batch pos d_model"], positions: Tensor | None, taps: Taps, *, at_ends: bool = False
    ) -> Float[Tensor, "batch pos_or_n_ends d_model"]:
        """Return what attention adds to the residual stream, everywhere or at the ends that the layout in force names."""
        written_at = only(residual, current_layout().ends) if at_ends else residual
        if (written := held(taps, f"{self.site}.resid_delta", written_at)) is not None:
            return written
        y = tapped(taps, f"{self.site}.y", self.attend(*self.project(residual, positions, taps), at_ends=at_ends))
        out = tapped(taps, f"{self.site}.resid_delta.pre", self.out(y))
        return tapped(taps, f"{self.site}.resid_delta", abs_topk(out, self.kept_out))

    def attend(
        self,
        q: Float[Tensor, "batch pos d_attn"],
        k: Float[Tensor, "batch pos d_attn"],
        v: Float[Tensor, "batch pos d_attn"],
        *,
        channels: Int[Tensor, " n_channels"] | None = None,
        at_ends: bool = False,
    ) -> Float[Tensor, "batch pos_or_n_ends d_attn_or_n_channels"]:
        """Return the heads' outputs, channel for channel those of v; under a layout each position looks back as that says.

        Args:
            q: queries, head after head.
            k: keys.
            v: values.
            channels: those to return; heads that have none of them are not run. None: all.
            at_ends: whether to return the ends that the layout names, and no other position.
        """
        layout = current_layout()
        q = only(q, layout.ends) if at_ends else q
        heads, sink = [rearrange(x, "b pos (head d) -> b head pos d", head=self.n_heads) for x in (q, k, v)], self.sink
        if channels is not None:
            head, place = (channels // (q.shape[-1] // self.n_heads)).unique(return_inverse=True)
            heads, sink = [x[:, head] for x in heads], None if sink is None else sink[head]
        y = sink_attention(*heads, sink, bias=None if layout is None else layout.bias_of(at_ends=at_ends))
        if channels is not None:
            return rearrange(y, "b head pos d -> b pos head d")[:, :, place, channels % y.shape[-1]]
        return rearrange(y, "b head pos d -> b pos (head d)")

    def project(
        self, residual: Float[Tensor, "batch pos d_model"], positions: Tensor | None, taps: Taps
    ) -> list[Float[Tensor, "batch pos d_attn"]]:
        """Return q, k and v after AbsTopK, each over all of its heads."""
        fixed = {name: x for name in "qkv" if (x := held(taps, f"{self.site}.{name}", residual)) is not None}
        if len(fixed) == 3:
            return list(fixed.values())
        act_in = self.reader(residual, positions, taps)
        if fixed:
            return [fixed[name] if name in fixed else self._project_one(name, act_in, taps) for name in "qkv"]
        qkv = rearrange(self.qkv(act_in, kept_by(taps, self.reader.site)), "b pos (three c) -> b pos three c", three=3)
        before = {name: f"{self.site}.{name}.pre" for name in "qkv"}
        if taps.keys() & before.values():
            qkv = torch.stack([tapped(taps, before[name], x) for name, x in zip("qkv", qkv.unbind(dim=2), strict=True)], dim=2)
        if len(set(self.kept)) == 1:
            parts = abs_topk(qkv, self.kept[0]).unbind(dim=2)
        else:
            parts = [abs_topk(x, kept) for x, kept in zip(qkv.unbind(dim=2), self.kept, strict=True)]
        return [tapped(taps, f"{self.site}.{name}", x) for name, x in zip("qkv", parts, strict=True)]

    def _project_one(self, name: str, act_in: Tensor, taps: Taps) -> Tensor:
        place = "qkv".index(name)
        bias = None if self.qkv.bias is None else self.qkv.bias.chunk(3)[place]
        x = linear(act_in, self.qkv.weight.chunk(3)[place], bias, kept_by(taps, self.reader.site))
        x = tapped(taps, f"{self.site}.{name}.pre", x)
        return tapped(taps, f"{self.site}.{name}", abs_topk(x, self.kept[place]))
