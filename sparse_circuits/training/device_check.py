"""Does a device compute what the CPU does? Apple's has been seen to give other logits in silence, so it is asked first.

It is asked without AbsTopK, which is not continuous: where rounding decides which channel is the k-th, another one survives,
and the logits of two sound devices are far apart.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.model.config import SiteFractions

TOLERANCE = 1e-3
"""Of logits, as a share of the largest of them."""
MAX_TOKENS = 64


@torch.no_grad()
def check_device(model: Transformer, device: torch.device) -> None:
    """Refuse a device on which a model without its AbsTopK answers otherwise than on the CPU.

    Args:
        model: on any device, which it stays on.
        device: the one to be trusted.

    Raises:
        UserError: logits differ, or are not finite.
    """
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(model.d_vocab, (2, min(MAX_TOKENS, model.config.n_ctx)), generator=generator)
    config = replace(model.config, abs_topk=1.0, site_fractions=SiteFractions())
    with torch.random.fork_rng(devices=[]):  # asking must not move the run's random numbers
        smooth = Transformer(config, d_vocab=model.d_vocab)
    smooth.load_state_dict(model.state_dict())
    expected = smooth(tokens)
    found = smooth.to(device)(tokens.to(device)).cpu()
    apart = (found - expected).abs().max() / expected.abs().max().clamp_min(1e-30)
    if not apart <= TOLERANCE:
        raise UserError(
            f"On {device.type} this model's logits are {apart:.1%} away from those on the CPU: use device=cpu, or another"
            " version of torch."
        )
