"""A bridge: linear maps between the residual streams of a dense and a sparse model, before every sublayer.

Source: Gao et al. 2025, section 2.3 and appendix A.3. At every site an encoder f (linear, AbsTopK) leads from the dense stream
to the sparse one, a decoder g (linear) back. Deviation: a map works between streams of size 1, x -> s_out W (x / s_in), s being
the root mean square of a stream so far. Streams grow by orders of magnitude along a model, and the sparse one while it is
trained; so W has the same scale everywhere, and one learning rate does for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.errors import UserError, nearest
from sparse_circuits.kernels.abs_topk import abs_topk
from sparse_circuits.model.dense import Dense
from sparse_circuits.model.sites import residual_sites
from sparse_circuits.model.store import read_tensors, write_tensors
from sparse_circuits.model.transformer import Transformer

BRIDGE_FILE = "bridge.safetensors"
START_SCALE = 0.1
"""Of a map's output, in sizes of the stream that it leads to: small, so that its error starts near that of saying nothing."""
MEMORY = 0.9
"""Share of a stream's size that one step of training keeps."""


class Crossing(NamedTuple):
    """One place where a bridge joins two models: the residual sites of each."""

    sparse: str
    dense: str


class LinearMap(nn.Module):
    """A matrix between streams of size 1.

    Args:
        n_in, n_out: channels.
    """

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * START_SCALE / n_in**0.5)

    def forward(
        self, x: Float[Tensor, "*rows n_in"], size_in: Float[Tensor, ""], size_out: Float[Tensor, ""]
    ) -> Float[Tensor, "*rows n_out"]:
        # Autocast may round the product; the stream that it becomes is as wide as the one it comes from.
        return nn.functional.linear(x / size_in, self.weight).to(x.dtype) * size_out


class Bridge(nn.Module):
    """Encoders and decoders at every crossing.

    Args:
        crossings: in the order of the sparse model.
        d_sparse, d_dense: residual channels.
        encoder_fraction: share of the sparse channels that AbsTopK leaves of what an encoder says; 1: all.
    """

    def __init__(self, crossings: list[Crossing], *, d_sparse: int, d_dense: int, encoder_fraction: float) -> None:
        super().__init__()
        self.crossings, self.encoder_fraction = crossings, encoder_fraction
        self.d_sparse, self.d_dense = d_sparse, d_dense
        self.encoders = nn.ModuleList(LinearMap(d_dense, d_sparse) for _ in crossings)
        self.decoders = nn.ModuleList(LinearMap(d_sparse, d_dense) for _ in crossings)
        self.register_buffer("sizes", torch.zeros(len(crossings), 2))  # root mean squares, sparse and dense; 0: not seen yet

    @property
    def kept(self) -> int:
        """Channels that AbsTopK leaves of what an encoder says."""
        return max(1, int(self.encoder_fraction * self.d_sparse))

    def encode(self, place: int, dense: Float[Tensor, "*rows d_dense"]) -> Float[Tensor, "*rows d_sparse"]:
        """Return the sparse stream that the dense one stands for at a crossing."""
        sparse_size, dense_size = self.sizes[place]
        return abs_topk(self.encoders[place](dense, dense_size, sparse_size), self.kept)

    def decode(self, place: int, sparse: Float[Tensor, "*rows d_sparse"]) -> Float[Tensor, "*rows d_dense"]:
        """Return the dense stream that the sparse one stands for at a crossing."""
        sparse_size, dense_size = self.sizes[place]
        return self.decoders[place](sparse, sparse_size, dense_size)

    def decoder_matrix(self, place: int) -> Float[Tensor, "d_dense d_sparse"]:
        """Return the decoder as one matrix, g(h) = G h."""
        sparse_size, dense_size = self.sizes[place]
        return self.decoders[place].weight * (dense_size / sparse_size)

    def encoder_matrix(self, place: int) -> Float[Tensor, "d_sparse d_dense"]:
        """Return the encoder before its AbsTopK as one matrix."""
        sparse_size, dense_size = self.sizes[place]
        return self.encoders[place].weight * (sparse_size / dense_size)

    @torch.no_grad()
    def see_(self, sparse: list[Float[Tensor, "batch pos d_sparse"]], dense: list[Float[Tensor, "batch pos d_dense"]]) -> None:
        """Take the sizes of both streams at every crossing into their running means."""
        now = torch.stack([torch.stack([root_mean_square(a), root_mean_square(b)]) for a, b in zip(sparse, dense, strict=True)])
        self.sizes.copy_(torch.where(self.sizes > 0, MEMORY * self.sizes + (1 - MEMORY) * now, now))


def root_mean_square(stream: Float[Tensor, "*rows channels"]) -> Float[Tensor, ""]:
    """Return a stream's size, over everything."""
    return stream.float().square().mean().sqrt()


def pair_sites(sparse: Transformer, dense: Dense, site_map: Sequence[str] = ()) -> list[Crossing]:
    """Return where a sparse and a dense model are joined: their sites one by one, or as the map says.

    Args:
        site_map: pairs of residual sites, `SPARSE:DENSE`, in the order of both models; none: one by one.

    Raises:
        UserError: the models do not have equally many layers and there is no map, or the map names a site that does not exist
            or goes back.
    """
    ours, theirs = residual_sites(sparse.config), residual_sites(dense.config)
    if not site_map:
        if len(ours) != len(theirs):
            raise UserError(
                f"The sparse model has {sparse.config.n_layers} layers and the dense one {dense.config.n_layers}: train a"
                f" sparse one of {dense.config.n_layers}, or give a site map, such as"
                f' \'bridge.site_map=["{ours[0]}:{theirs[0]}","{ours[-1]}:{theirs[-1]}"]\'.'
            )
        return [Crossing(*pair) for pair in zip(ours, theirs, strict=True)]
    crossings = [Crossing(*pair.partition(":")[::2]) for pair in site_map]
    for whose, sites, named in zip(("sparse", "dense"), (ours, theirs), zip(*crossings, strict=True), strict=True):
        for site in named:
            if site not in sites:
                raise UserError(
                    f'The {whose} model has no residual site "{site}"{nearest(site, sites)}: choose from {", ".join(sites)},'
                    " and write SPARSE:DENSE."
                )
        order = [sites.index(site) for site in named]
        if any(late <= early for early, late in pairwise(order)):
            raise UserError(
                f"The site map goes back, or twice to one place, in the {whose} model: keep its order, each site once."
            )
    return crossings


@dataclass(frozen=True)
class SavedBridge:
    """What a bridge's file says beside its maps."""

    sparse_hash: str
    dense: str


def save_bridge(bridge: Bridge, path: Path, *, sparse_hash: str, dense: str) -> None:
    """Write a bridge to one file.

    Args:
        sparse_hash: of the sparse model that it leads from.
        dense: the place of the dense model.
    """
    metadata = {
        "crossings": [list(crossing) for crossing in bridge.crossings],
        "d_sparse": bridge.d_sparse,
        "d_dense": bridge.d_dense,
        "encoder_fraction": bridge.encoder_fraction,
        "sparse_hash": sparse_hash,
        "dense": dense,
    }
    write_tensors(path, bridge.state_dict(), kind="bridge", metadata=metadata)


def load_bridge(path: Path) -> tuple[Bridge, SavedBridge]:
    """Read a bridge, frozen, and what it joins.

    Raises:
        UserError: the file is missing, damaged or no bridge.
    """
    tensors, metadata = read_tensors(path, kind="bridge")
    saved = SavedBridge(metadata.pop("sparse_hash"), metadata.pop("dense"))
    crossings = [Crossing(*crossing) for crossing in metadata.pop("crossings")]
    with torch.random.fork_rng(devices=[]):  # loading must not move the caller's random numbers
        bridge = Bridge(crossings, **metadata)
    bridge.load_state_dict(tensors)
    return bridge.eval().requires_grad_(False), saved
