"""What a sublayer reads: the normalised residual stream, beside it the positions, thinned by AbsTopK."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.kernels.abs_topk import abs_topk, rms_norm_abs_topk
from sparse_circuits.model.config import ModelConfig
from sparse_circuits.model.norm import EPS, RMSNorm, replaced_rms
from sparse_circuits.model.taps import Taps, held, tapped


class Reader(nn.Module):
    """The `act_in` site of one sublayer.

    Positions are normalised on their own and concatenated behind the residual channels; nothing ever writes to them.
    """

    def __init__(self, config: ModelConfig, *, site: str) -> None:
        super().__init__()
        self.site, self.rms_site = f"{site}.act_in", f"{site}.rms"
        self.norm = RMSNorm(config.d_model)
        self.position_norm = RMSNorm(config.position_width) if config.position_width else None
        self.kept = config.survivors(f"{site.split('.')[-1]}.act_in", config.d_read)

    def forward(
        self, residual: Float[Tensor, "batch pos d_model"], positions: Tensor | None, taps: Taps
    ) -> Float[Tensor, "batch pos d_read"]:
        """Return the sublayer's input, in autocast's dtype where autocast is on."""
        if (x := held(taps, self.site, residual)) is not None:
            return x
        autocast = torch.is_autocast_enabled(residual.device.type)
        # The next product would round to autocast's dtype anyway; rounding first makes AbsTopK cheaper.
        dtype = torch.get_autocast_dtype(residual.device.type) if autocast else residual.dtype
        rms = replaced_rms(residual, taps, self.rms_site)
        if self.position_norm is None and rms is None and isinstance(self.norm, RMSNorm):
            return tapped(taps, self.site, rms_norm_abs_topk(residual, self.norm.gain, self.kept, eps=EPS, dtype=dtype))
        x = self.norm(residual, rms)
        if self.position_norm is not None:
            x = torch.cat([x, self.position_norm(positions).expand(*x.shape[:-1], -1)], dim=-1)
        return tapped(taps, self.site, abs_topk(x.to(dtype), self.kept))
