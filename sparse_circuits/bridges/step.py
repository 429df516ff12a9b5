"""One step of bridge training: the losses of a bridge in the place of the next-token loss, the rest as in pretraining."""

from __future__ import annotations

from contextlib import nullcontext

from jaxtyping import Int
from torch import Tensor

from sparse_circuits.bridges.bridge import Bridge
from sparse_circuits.bridges.losses import BridgeConfig, BridgeLoss
from sparse_circuits.model.dense import Dense
from sparse_circuits.model.transformer import Transformer
from sparse_circuits.run import Autocast
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.step import PretrainStep


class BridgeStep:
    """The step that `fit` takes when it trains a sparse model and a bridge to a dense one; the sparse model anneals as usual.

    Args:
        sparse: the model to train.
        dense: the model that it is bridged to, frozen.
        bridge: between them.
        config: the whole run's config.
        weights: of the losses.
        autocast: makes the context in which the losses are computed.
    """

    def __init__(
        self,
        sparse: Transformer,
        dense: Dense,
        bridge: Bridge,
        config: TrainConfig,
        weights: BridgeConfig,
        *,
        autocast: Autocast = nullcontext,
    ) -> None:
        self.model, self.bridge, self.autocast = sparse, bridge, autocast
        self.losses = BridgeLoss(sparse, dense, bridge, weights)
        self.pretraining = PretrainStep(sparse, config, autocast=autocast, beside=bridge, loss=self.losses)

    def __call__(self, batch: Int[Tensor, "batch pos_plus_one"], *, index: int) -> dict[str, float | Tensor]:
        """Take step `index` and return what pretraining does, and every loss."""
        taken = self.pretraining(batch, index=index)
        return {**taken, **{f"bridge/{name}": loss for name, loss in self.losses.parts.items()}}

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that a checkpoint must hold."""
        return self.pretraining.tensors()

    def load_tensors(self, held: dict[str, Tensor]) -> None:
        """Put back what `tensors` returned."""
        self.pretraining.load_tensors(held)
