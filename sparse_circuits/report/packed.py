"""Many small numbers as text: eight bits each, base64.

    signed   {scale: [one for every row], bytes}   value = scale of its row x an int8; rows one behind the other
    shares   bytes                                 value = uint8 / 255

Eight bits are less than a colour can show. What is not finite becomes 0.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sparse_circuits.report.numbers import nine_digits


def pack_signed(rows: Float[Tensor, "n_rows n_columns"]) -> dict[str, Any]:
    """Pack rows of numbers, each by its own largest |number|."""
    rows = rows.float().cpu().nan_to_num(0, 0, 0)
    scale = (rows.abs().amax(1) if rows.shape[1] else rows.new_zeros(len(rows))) / 127
    counts = (rows / scale.clamp(min=1e-30).unsqueeze(1)).round().to(torch.int8)
    return {"scale": [nine_digits(each) for each in scale.tolist()], "bytes": _base64(counts)}


def pack_shares(shares: Float[Tensor, " n"]) -> str:
    """Pack numbers from 0 to 1."""
    return _base64((shares.float().cpu().nan_to_num(0).clamp(0, 1) * 255).round().to(torch.uint8))


def _base64(values: Tensor) -> str:
    return b64encode(values.contiguous().numpy().tobytes()).decode()
