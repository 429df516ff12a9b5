"""Taps: functions from a site's value to a value, called where the site stands in the forward pass.

Recording, mean ablation, masks and steering are all taps on the one transformer; with no taps the forward pass is untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
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


class Kept:
    """A tap that leaves some channels as they are and puts a row into the others, which what reads its site need not read.

    Args:
        kept: Bool[Tensor, "width"].
        row: Float[Tensor, "width"].
    """

    def __init__(self, kept: Tensor, row: Tensor) -> None:
        kept = kept.to(row.device)
        self.channels, self.share, self.rest = kept.nonzero().squeeze(1), kept.to(row.dtype), row.masked_fill(kept, 0)

    def __call__(self, value: Tensor) -> Tensor:
        return torch.addcmul(self.rest.to(value), value, self.share.to(value))


class Look:
    """A tap that leaves the value as it is.

    Args:
        look: called with it.
    """

    def __init__(self, look: Callable[[Tensor], object]) -> None:
        self.look = look

    def __call__(self, value: Tensor) -> Tensor:
        self.look(value)
        return value


def looks(values: dict[str, Tensor], sites: Iterable[str]) -> Taps:
    """Return taps that put the value of each site under its name, and leave it as it is."""
    return {site: Look(partial(values.__setitem__, site)) for site in sites}


class Behind:
    """One tap behind another."""

    def __init__(self, first: Callable[[Tensor], Tensor], second: Callable[[Tensor], Tensor]) -> None:
        self.first, self.second = first, second

    def __call__(self, value: Tensor) -> Tensor:
        return self.second(self.first(value))


def chain(*all_taps: Taps) -> Taps:
    """Return one set of taps that does at every site what these do there, one behind the other."""
    chained: dict[str, Callable[[Tensor], Tensor]] = {}
    for taps in all_taps:
        for site, tap in taps.items():
            chained[site] = Behind(chained[site], tap) if site in chained else tap
    return chained


def kept_by(taps: Taps, site: str) -> Kept | None:
    """Return the tap that decides which of a site's channels are more than a row; None where all may be."""
    tap = taps.get(site)
    while isinstance(tap, Behind):
        tap = tap.first if isinstance(tap.second, Look) else tap.second
    return tap if isinstance(tap, Kept) else None


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
    recording = chain(taps, looks(values, wanted))
    residual = model.residual(tokens, taps=recording, until=wanted[-1], at=at)
    if FINAL_RMS in wanted:
        model.read_out(residual, tokens, taps=recording, at=at)
    return values if names is Names.published else in_transformer_lens(values, model.config)
