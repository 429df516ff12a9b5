"""Position vectors, learned or sinusoidal: one row for each position up to n_ctx."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.model.config import ModelConfig, PositionKind, Positions
from sparse_circuits.model.layout import current_layout


class PositionTable(nn.Module):
    """A table of position vectors, trained where the config says so."""

    def __init__(self, table: Float[Tensor, "n_ctx d_pos"], *, learned: bool) -> None:
        super().__init__()
        if learned:
            self.table = nn.Parameter(table)
        else:
            self.register_buffer("table", table, persistent=False)

    def forward(self, n_pos: int) -> Float[Tensor, "*batch n_pos d_pos"]:
        """Return the vectors of the first places, or of the places that the layout in force gives."""
        layout = current_layout()
        return self.table[:n_pos] if layout is None else self.table[layout.places]


def position_table(config: ModelConfig) -> PositionTable | None:
    """Return the model's position vectors: d_model wide when added, d_pos wide when concatenated, else None."""
    if config.positions is Positions.none:
        return None
    width = config.position_width or config.d_model
    learned = config.position_kind is PositionKind.learned
    return PositionTable(torch.empty(config.n_ctx, width) if learned else sinusoids(config.n_ctx, width), learned=learned)


def sinusoids(n_pos: int, width: int) -> Float[Tensor, "n_pos width"]:
    """Return sines (first half) and cosines of wavelengths from 2 pi to 20,000 pi (Vaswani et al. 2017, section 3.5)."""
    n_waves = (width + 1) // 2
    rates = 10_000.0 ** -(torch.arange(n_waves) / n_waves)
    angles = torch.arange(n_pos).unsqueeze(1) * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)[:, :width]
