"""What a sublayer reads: the normalised residual stream, beside it the positions, thinned by AbsTopK."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.kernels.abs_topk import abs_topk
from sparse_circuits.model.config import ModelConfig
from sparse_circuits.model.norm import RMSNorm
from sparse_circuits.model.taps import Taps, tapped


class Reader(nn.Module):
    """The `act_in` site of one sublayer.

    Positions are normalised on their own and concatenated behind the residual channels; nothing ever writes to them.
    """

    def __init__(self, config: ModelConfig, *, site: str) -> None:
        super().__init__()
        self.site = f"{site}.act_in"
        self.norm = RMSNorm(config.d_model)
        self.position_norm = RMSNorm(config.position_width) if config.position_width else None
        self.kept = config.survivors(f"{site.split('.')[-1]}.act_in", config.d_read)

    def forward(
        self, residual: Float[Tensor, "batch pos d_model"], positions: Tensor | None, taps: Taps
    ) -> Float[Tensor, "batch pos d_read"]:
        """Return the sublayer's input, in autocast's dtype where autocast is on."""
        x = self.norm(residual)
        if self.position_norm is not None:
            beside = self.position_norm(positions).expand(*x.shape[:-1], -1)
            x = torch.cat([x, beside], dim=-1)
        if torch.is_autocast_enabled(x.device.type):
            # The next product would round to this dtype anyway; rounding first makes AbsTopK cheaper.
            x = x.to(torch.get_autocast_dtype(x.device.type))
        return tapped(taps, self.site, abs_topk(x, self.kept))
