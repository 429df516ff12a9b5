"""Taps: functions from a site's value to a value, called where the site stands in the forward pass.

Recording, mean ablation, masks and steering are all taps on the one transformer; with no taps the forward pass is untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor

from sparse_circuits.model.names import Names, in_transformer_lens
from sparse_circuits.model.sites import FINAL_RMS, match_sites

if TYPE_CHECKING:
    from sparse_circuits.model.transformer import Transformer

Taps = Mapping[str, Callable[[Tensor], Tensor]]
NO_TAPS: Taps = {}


class Held:
    """A tap that puts one row at every position, whatever stood there: what leads to its site alone is not computed.

    Taps on the way to it are then not called; `record` computes everything.

    Args:
        row: Float[Tensor, "width"].
    """

    def __init__(self, row: Tensor) -> None:
        self.row = row

    def __call__(self, value: Tensor) -> Tensor:
        return self.row.to(value).expand_as(value)

    def at(self, positions_of: Tensor) -> Tensor:
        """Return the row at every position of another site's value."""
        return self.row.to(positions_of).expand(*positions_of.shape[:-1], -1)


def held(taps: Taps, site: str, positions_of: Tensor) -> Tensor | None:
    """Return the value of a site that is held, at every position of another site's value; None where it is not."""
    tap = taps.get(site)
    return tap.at(positions_of) if isinstance(tap, Held) else None


def tapped(taps: Taps, site: str, value: Tensor) -> Tensor:
    """Return what the site's tap makes of the value, or the value itself where there is no tap."""
    tap = taps.get(site)
    return value if tap is None else tap(value)


def record(
    model: Transformer,
    tokens: Tensor,
    sites: str | Iterable[str],
    *,
    taps: Taps | None = None,
    at: Tensor | None = None,
    names: Names = Names.published,
) -> dict[str, Tensor]:
    """Return the values of the sites that match, stopping the forward pass behind the last of them.

    Args:
        model: the transformer.
        tokens: Int[Tensor, "batch pos"].
        sites: names or shell-style patterns, such as `*.mlp.post_act`.
        taps: changes to make on the way; a site that is both tapped and recorded is recorded as changed.
        at: record as a forward pass that reads its logits at this position of each row sees it: from the last MLP on,
            values are (batch, 1, width).
        names: under which the values are returned.

    Returns:
        For each site its value, Float[Tensor, "batch pos width"]; under TransformerLens' names those of heads are
        Float[Tensor, "batch pos n_heads d_head"], and sites that it does not have are left out.

    Raises:
        UserError: a pattern matches no site.
    """
    wanted = match_sites(model.config, sites)
    values: dict[str, Tensor] = {}
    taps = {site: tap.__call__ if isinstance(tap, Held) else tap for site, tap in (taps or NO_TAPS).items()}

    def keep(site: str) -> Callable[[Tensor], Tensor]:
        def tap(value: Tensor) -> Tensor:
            values[site] = value = tapped(taps, site, value)
            return value

        return tap

    recording = {**taps, **{site: keep(site) for site in wanted}}
    residual = model.residual(tokens, taps=recording, until=wanted[-1], at=at)
    if FINAL_RMS in wanted:
        model.read_out(residual, tokens, taps=recording, at=at)
    return values if names is Names.published else in_transformer_lens(values, model.config)
