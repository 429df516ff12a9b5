"""RMSNorm with a gain: zero in, zero out, so that a zero in the residual stream means no information."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from sparse_circuits.model.taps import Taps, tapped

EPS = torch.finfo(torch.float32).eps


class RMSNorm(nn.Module):
    """Divide by the root mean square over channels and multiply by a gain (appendix A.1); EPS is float32's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(
        self, x: Float[Tensor, "*rows width"], rms: Float[Tensor, "*rows 1"] | None = None
    ) -> Float[Tensor, "*rows width"]:
        """Normalise x, by a denominator of the caller's if there is one."""
        return F.rms_norm(x, self.gain.shape, self.gain, EPS) if rms is None else x / rms * self.gain


def replaced_rms(x: Float[Tensor, "*rows width"], taps: Taps, site: str) -> Float[Tensor, "*rows 1"] | None:
    """Return what a tap puts in the place of the root mean square of x; None where no tap does."""
    if site not in taps:
        return None
    own = (x.square().mean(-1, keepdim=True) + EPS).sqrt()
    rms = tapped(taps, site, own)
    return None if rms is own else rms  # who only looks changes no bit
