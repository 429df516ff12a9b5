"""Hybrid passes: what begins in one model goes on in the other, from the place where the stream crossed over.

Passes that cross at several places run as one: where each crosses, its rows join those that are on their way. So no sublayer is
called more than once, and every model's unembedding is one product.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.model.dense import Dense
from sparse_circuits.model.taps import looks
from sparse_circuits.model.transformer import Transformer

Stream = Float[Tensor, "batch pos channels"]


class Seen(NamedTuple):
    """A model's own pass."""

    streams: list[Stream]
    """The residual stream at each site asked for."""
    logits: Float[Tensor, "batch pos d_vocab"]


def observe(model: Dense, tokens: Int[Tensor, "batch pos"], sites: Sequence[str]) -> Seen:
    """Return a model's residual stream at some sites, and its logits."""
    streams: dict[str, Tensor] = {}
    logits = model(tokens, taps=looks(streams, sites))
    return Seen([streams[site] for site in sites], logits)


def run_from_each(
    model: Dense, streams: Mapping[str, Stream], *, tokens: Int[Tensor, "batch pos"]
) -> Float[Tensor, "n_sites batch pos d_vocab"]:
    """Return the logits of passes that start at several sites, each with its own stream there.

    Args:
        streams: by residual site, in the order of the model.
        tokens: the same for all.
    """
    (first, start), *later = streams.items()
    taps = {site: lambda x, stream=stream: torch.cat([x, stream.to(x.dtype)]) for site, stream in later}
    logits = model.run_from(first, start, tokens=tokens.repeat(len(streams), 1), taps=taps)
    return logits.unflatten(0, (len(streams), -1))


def into_sparse(
    sparse: Transformer, bridge: Bridge, dense_streams: Sequence[Stream], places: Sequence[int], *, tokens: Tensor
) -> Float[Tensor, "n_places batch pos d_vocab"]:
    """Return the logits of passes that begin in the dense model and cross over to the sparse one at each place."""
    starts = {bridge.crossings[i].sparse: bridge.encode(i, dense_streams[i]) for i in places}
    return run_from_each(sparse, starts, tokens=tokens)


def into_dense(
    dense: Dense, bridge: Bridge, sparse_streams: Sequence[Stream], places: Sequence[int], *, tokens: Tensor
) -> Float[Tensor, "n_places batch pos d_vocab"]:
    """Return the logits of passes that begin in the sparse model and cross over to the dense one at each place."""
    starts = {bridge.crossings[i].dense: bridge.decode(i, sparse_streams[i]) for i in places}
    return run_from_each(dense, starts, tokens=tokens)


def alternate(
    sparse: Transformer, dense: Dense, bridge: Bridge, *, tokens: Int[Tensor, "batch pos"], dense_first: bool
) -> Float[Tensor, "batch pos d_vocab"]:
    """Return the logits of a pass that crosses over at every place, which training never does.

    Args:
        dense_first: which model it begins in; it ends in whichever the last place leads to.
    """
    in_dense = dense_first
    site = bridge.crossings[0].dense if in_dense else bridge.crossings[0].sparse
    (stream,), _ = observe(dense if in_dense else sparse, tokens, [site])
    for place, (here, after) in enumerate(pairwise(bridge.crossings), start=1):
        if in_dense:
            stream = bridge.encode(place, _between(dense, here.dense, stream, after.dense, tokens))
        else:
            stream = bridge.decode(place, _between(sparse, here.sparse, stream, after.sparse, tokens))
        in_dense = not in_dense
    last = bridge.crossings[-1]
    return (
        dense.run_from(last.dense, stream, tokens=tokens) if in_dense else sparse.run_from(last.sparse, stream, tokens=tokens)
    )


def _between(model: Dense, start: str, stream: Stream, stop: str, tokens: Tensor) -> Stream:
    """Return the stream at one site of a pass that starts at an earlier one."""
    streams: dict[str, Tensor] = {}
    model.run_from(start, stream, tokens=tokens, taps=looks(streams, [stop]))
    return streams[stop]
