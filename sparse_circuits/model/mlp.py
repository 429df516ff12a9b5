"""The MLP sublayer: norm, sparse neurons, and what they write to the stream."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.kernels.abs_topk import abs_topk, gelu_abs_topk
from sparse_circuits.model.config import Activation, ModelConfig
from sparse_circuits.model.linear import Linear
from sparse_circuits.model.reader import Reader
from sparse_circuits.model.taps import Taps, held, kept_by, tapped


def _relu_abs_topk(x: Float[Tensor, "*rows width"], k: int) -> Float[Tensor, "*rows width"]:
    return abs_topk(torch.relu(x), k)


_ACTIVATIONS = {Activation.gelu: gelu_abs_topk, Activation.relu: _relu_abs_topk}


class MLP(nn.Module):
    """One MLP sublayer."""

    def __init__(self, config: ModelConfig, *, layer: int) -> None:
        super().__init__()
        self.site = f"{layer}.mlp"
        self.activation = _ACTIVATIONS[config.activation]
        self.reader = Reader(config, site=self.site)
        self.into = Linear(config.d_read, config.neurons, bias=config.biases)
        self.out = Linear(config.neurons, config.d_model, bias=config.biases)
        self.kept_neurons = config.survivors("mlp.post_act", config.neurons)
        self.kept_out = config.survivors("mlp.resid_delta", config.d_model)

    def forward(
        self, residual: Float[Tensor, "batch pos d_model"], positions: Tensor | None, taps: Taps
    ) -> Float[Tensor, "batch pos d_model"]:
        """Return what the MLP adds to the residual stream."""
        if (written := held(taps, f"{self.site}.resid_delta", residual)) is not None:
            return written
        if (neurons := held(taps, f"{self.site}.post_act", residual)) is None:
            into = self.into(self.reader(residual, positions, taps), kept_by(taps, self.reader.site))
            into = tapped(taps, f"{self.site}.post_act.pre", into)
            neurons = tapped(taps, f"{self.site}.post_act", self.activation(into, self.kept_neurons))
        out = tapped(taps, f"{self.site}.resid_delta.pre", self.out(neurons, kept_by(taps, f"{self.site}.post_act")))
        return tapped(taps, f"{self.site}.resid_delta", abs_topk(out, self.kept_out))
