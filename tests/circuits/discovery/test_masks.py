"""The configuration of mask learning refuses what cannot be."""

import pytest

from sparse_circuits.circuits import MaskConfig
from sparse_circuits.errors import UserError


@pytest.mark.parametrize(
    "wrong",
    [{"n_steps": 0}, {"n_edge_steps": -1}, {"lr": -1.0}, {"heaviside_temp": 0.0}, {"k_coef": -1e-4}, {"warmup": 1.0}],
)
def test_refuses_settings_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(wrong))):
        MaskConfig(**wrong)
