"""Does a device compute what the CPU does? Apple's has been seen to give other logits in silence, so it is asked first."""

from __future__ import annotations

from copy import deepcopy

import torch

from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer

TOLERANCE = 1e-3
"""Of logits, as a share of the largest of them."""
MAX_TOKENS = 64


@torch.no_grad()
def check_device(model: Transformer, device: torch.device) -> None:
    """Refuse a device on which a model answers otherwise than on the CPU.

    Args:
        model: on any device, which it stays on.
        device: the one to be trusted.

    Raises:
        UserError: logits differ, or are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.d_vocab, (2, min(MAX_TOKENS, model.config.n_ctx)), generator=generator)
    expected = deepcopy(model).cpu()(tokens)
    found = deepcopy(model).to(device)(tokens.to(device)).cpu()
    apart = (found - expected).abs().max() / expected.abs().max().clamp_min(1e-30)
    if not apart <= TOLERANCE:
        raise UserError(
            f"On {device.type} this model's logits are {apart:.1%} away from those on the CPU: use device=cpu, or another"
            " version of torch."
        )
