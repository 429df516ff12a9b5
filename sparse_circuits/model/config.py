"""The shape of a transformer (Gao et al. 2025, appendix A.1): what the user says of it; the vocabulary is found out."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum

from sparse_circuits.errors import UserError


class Activation(Enum):
    """The MLP's nonlinearity."""

    gelu = "gelu"
    relu = "relu"


class Positions(Enum):
    """How a token learns where it stands: not at all, or by a vector added to the stream or read beside it."""

    none = "none"
    added = "added"
    concatenated = "concatenated"


class PositionKind(Enum):
    """Whether position vectors are trained or fixed sines and cosines."""

    learned = "learned"
    sinusoidal = "sinusoidal"


@dataclass(frozen=True)
class SiteFractions:
    """The share of channels that AbsTopK keeps at each node site; 1 switches it off there, null follows `abs_topk`."""

    attn_act_in: float | None = None
    attn_q: float | None = None
    attn_k: float | None = None
    attn_v: float | None = None
    attn_resid_delta: float | None = None
    mlp_act_in: float | None = None
    mlp_post_act: float | None = None
    mlp_resid_delta: float | None = None


@dataclass(frozen=True)
class ModelConfig:
    n_layers: int = 2
    """Layers, each an attention and an MLP sublayer."""
    d_model: int = 128
    """Residual channels."""
    n_ctx: int = 128
    """Longest sequence, in tokens."""
    d_head: int = 16
    """Channels of one attention head."""
    n_heads: int | None = None
    """Attention heads; null: d_model / d_head."""
    d_mlp: int | None = None
    """MLP neurons; null: 4 d_model."""
    activation: Activation = Activation.gelu
    """MLP nonlinearity."""
    positions: Positions = Positions.none
    """Position vectors; the paper's models have none (figure 26)."""
    position_kind: PositionKind = PositionKind.learned
    """Trained or sinusoidal position vectors."""
    d_pos: int | None = None
    """Width of concatenated position vectors; null: d_head."""
    sinks: bool = True
    """A learned attention sink per head."""
    bigram: bool = True
    """A dense table that adds the current token's row to the logits."""
    tied: bool = False
    """Unembed with the embedding's weights."""
    biases: bool = True
    """Biases on q, k, v, attention output, MLP in and MLP out."""
    abs_topk: float = 0.25
    """Share of channels that survive at every node site; 1: no activation sparsity."""
    site_fractions: SiteFractions = field(default_factory=SiteFractions)
    """Exceptions to `abs_topk`, by site."""

    def __post_init__(self) -> None:
        for name in ("n_layers", "d_model", "n_ctx", "d_head", "n_heads", "d_mlp", "d_pos"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"model.{name} is {value}: it counts things, so give at least 1.")
        if self.n_heads is None and self.d_model % self.d_head:
            raise UserError(
                f"model.d_head = {self.d_head} does not divide d_model = {self.d_model}: set model.n_heads as well."
            )
        for kind, fraction in self.fractions().items():
            if not 0 < fraction <= 1:
                raise UserError(f"The AbsTopK share at {kind} is {fraction}: give a number above 0 and up to 1.")

    @property
    def heads(self) -> int:
        """The number of attention heads of a layer."""
        return self.n_heads or self.d_model // self.d_head

    @property
    def d_attn(self) -> int:
        """The channels of all heads together."""
        return self.heads * self.d_head

    @property
    def neurons(self) -> int:
        """The MLP neurons of a layer."""
        return self.d_mlp or 4 * self.d_model

    @property
    def position_width(self) -> int:
        """The read-only channels that concatenated positions add to what every sublayer reads."""
        return (self.d_pos or self.d_head) if self.positions is Positions.concatenated else 0

    @property
    def d_read(self) -> int:
        """The channels a sublayer reads: the residual stream and the concatenated positions."""
        return self.d_model + self.position_width

    def fractions(self) -> dict[str, float]:
        """Return the AbsTopK share of every kind of node site, keyed `attn.q`, `mlp.post_act`, ..."""
        own = {f.name.replace("_", ".", 1): getattr(self.site_fractions, f.name) for f in fields(SiteFractions)}
        return {kind: self.abs_topk if fraction is None else fraction for kind, fraction in own.items()}

    def survivors(self, kind: str, width: int) -> int:
        """Return how many of `width` channels AbsTopK keeps at a site kind: int(fraction x width), at least one."""
        return max(1, int(self.fractions()[kind] * width))
