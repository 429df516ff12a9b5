"""A sparse and a dense model, tiny, of random weights, with a bridge between them."""

import pytest
import torch
from torch import Tensor

from sparse_circuits.bridges import Bridge, pair_sites
from sparse_circuits.model import Transformer
from sparse_circuits.model.dense import Dense
from tests.bridges.models import D_VOCAB, N_CTX, gpt2, transformer


@pytest.fixture
def sparse() -> Transformer:
    return transformer(d_model=16, seed=0)


@pytest.fixture(params=["ours", "gpt2"])
def dense(request: pytest.FixtureRequest) -> Dense:
    if request.param == "gpt2":
        return gpt2(d_model=8)
    return transformer(d_model=8, seed=1, abs_topk=1.0).eval().requires_grad_(False)


@pytest.fixture
def bridge(sparse: Transformer, dense: Dense) -> Bridge:
    torch.manual_seed(3)
    made = Bridge(pair_sites(sparse, dense), d_sparse=16, d_dense=8, encoder_fraction=0.5)
    made.sizes.fill_(1.0)
    return made


@pytest.fixture
def batch() -> Tensor:
    torch.manual_seed(4)
    return torch.randint(D_VOCAB, (3, N_CTX + 1))
