"""What a bridge is trained on (Gao et al. 2025, appendix A.3), with weights:

- nmse: at every place, the error of the encoder against the sparse stream and of the decoder against the dense one;
- kl_to_sparse: a pass that crosses over into the sparse model ends with the dense model's answers;
- kl_to_dense: so does one that crosses from the sparse model into the dense one;
- pretraining: the sparse model's own next-token loss.

The dense model runs once, without gradient, and its weights never have one. The Kullback-Leibler losses may be taken at a few
places drawn anew for every step, which is unbiased.

Deviations: the first three are means over places, not sums, which outweigh the fourth where there are many; and what the maps
ask of the sparse stream leaves its size as it is. An encoder predicts a mean, which is smaller than what it stands for; a
stream that is drawn to it shrinks, nothing holds it where norms divide by its size, and the encoder's output, which has that
size, shrinks with it, until the norms' epsilon is all that is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax

from sparse_circuits.bridges.bridge import Bridge, root_mean_square
from sparse_circuits.bridges.hybrid import into_dense, into_sparse, observe
from sparse_circuits.errors import UserError
from sparse_circuits.model.dense import Dense
from sparse_circuits.model.taps import looks
from sparse_circuits.model.transformer import Transformer


@dataclass(frozen=True)
class BridgeConfig:
    encoder_fraction: float = 0.25
    """Share of the sparse channels that AbsTopK leaves of what an encoder says; 1: all."""
    nmse: float = 1.0
    """Weight of the normalised errors."""
    kl_to_sparse: float = 1.0
    """Weight of crossing over into the sparse model."""
    kl_to_dense: float = 1.0
    """Weight of crossing over into the dense model."""
    pretraining: float = 1.0
    """Weight of the sparse model's next-token loss."""
    n_places: int | None = 2
    """Places, at most, at which passes cross over in one step, drawn anew; null: all, which costs several times as much."""
    site_map: list[str] = field(default_factory=list)
    """Which residual sites are joined where the models have other numbers of layers, as SPARSE:DENSE; []: one by one."""

    def __post_init__(self) -> None:
        if not 0 < self.encoder_fraction <= 1:
            raise UserError(f"bridge.encoder_fraction is {self.encoder_fraction}: give a share above 0 and up to 1.")
        for name in ("kl_to_sparse", "kl_to_dense", "pretraining"):
            if getattr(self, name) < 0:
                raise UserError(f"bridge.{name} is {getattr(self, name)}: a weight is not negative.")
        if self.nmse <= 0:
            raise UserError(f"bridge.nmse is {self.nmse}: every map learns from it at every step, so give more than 0.")
        if self.n_places is not None and self.n_places < 1:
            raise UserError(f"bridge.n_places is {self.n_places}: give at least 1, or null for all.")


class BridgeLoss(nn.Module):
    """From a batch to the weighted sum of the losses; `parts` holds each of the last batch, in nats or as a share.

    Args:
        sparse, dense: the models.
        bridge: between them.
        config: weights.
    """

    def __init__(self, sparse: Transformer, dense: Dense, bridge: Bridge, config: BridgeConfig) -> None:
        super().__init__()
        self.sparse, self.bridge, self.config = sparse, bridge, config
        self.parts: Mapping[str, Tensor] = {}
        self._dense = [dense]  # in a list, so that its weights are none of ours

    def forward(self, batch: Int[Tensor, "batch pos_plus_one"]) -> Float[Tensor, ""]:
        tokens, targets = batch[:, :-1], batch[:, 1:]
        (dense,), bridge = self._dense, self.bridge
        with torch.no_grad():
            of_dense = observe(dense, tokens, [crossing.dense for crossing in bridge.crossings])
        streams: dict[str, Tensor] = {}
        sites = [crossing.sparse for crossing in bridge.crossings]
        pretraining = self.sparse.loss(tokens, targets, taps=looks(streams, sites))
        of_sparse = [of_own_size(streams[site]) for site in sites]
        if self.training:
            bridge.see_(of_sparse, of_dense.streams)
        n = len(bridge.crossings)
        places = sorted(torch.randperm(n)[: self.config.n_places].tolist())
        answers = log_softmax(of_dense.logits, dim=-1)
        to_sparse = into_sparse(self.sparse, bridge, of_dense.streams, places, tokens=tokens)
        to_dense = into_dense(dense, bridge, of_sparse, places, tokens=tokens)
        parts = {
            "nmse": sum(errors(bridge, place, of_sparse[place], of_dense.streams[place]).sum() for place in range(n)) / n,
            "kl_to_sparse": divergence(to_sparse, answers).mean(),
            "kl_to_dense": divergence(to_dense, answers).mean(),
            "pretraining": pretraining,
        }
        self.parts = {name: part.detach() for name, part in parts.items()}
        return sum(getattr(self.config, name) * part for name, part in parts.items())


def of_own_size(stream: Float[Tensor, "*rows channels"]) -> Float[Tensor, "*rows channels"]:
    """Return the stream, with a gradient that does not change its root mean square."""
    size = root_mean_square(stream)
    return stream * (size.detach() / size).to(stream.dtype)


def errors(
    bridge: Bridge, place: int, sparse: Float[Tensor, "batch pos d_sparse"], dense: Float[Tensor, "batch pos d_dense"]
) -> Float[Tensor, " 2"]:
    """Return the normalised errors of the encoder and of the decoder at a place."""
    return torch.stack([nmse(bridge.encode(place, dense), sparse), nmse(bridge.decode(place, sparse), dense)])


def nmse(said: Float[Tensor, "*rows channels"], meant: Float[Tensor, "*rows channels"]) -> Float[Tensor, ""]:
    """Return |said - meant|^2 / |meant|^2, sums over everything, no gradient through the denominator."""
    said, meant = said.float(), meant.float()
    return (said - meant).square().sum() / meant.detach().square().sum()


def divergence(
    logits: Float[Tensor, "n_places batch pos d_vocab"], answers: Float[Tensor, "batch pos d_vocab"]
) -> Float[Tensor, " n_places"]:
    """Return KL(answers, softmax(logits)) in nats, mean over positions.

    Args:
        answers: log probabilities.
    """
    each = [kl_div(log_softmax(row, dim=-1), answers, reduction="sum", log_target=True) for row in logits]
    return torch.stack(each) / answers[..., 0].numel()
