"""RMSNorm with a gain: zero in, zero out, so that a zero in the residual stream means no information."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

EPS = torch.finfo(torch.float32).eps


class RMSNorm(nn.Module):
    """Divide by the root mean square over channels and multiply by a gain (appendix A.1); EPS is float32's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Float[Tensor, "*rows width"]) -> Float[Tensor, "*rows width"]:
        return F.rms_norm(x, self.gain.shape, self.gain, EPS)
