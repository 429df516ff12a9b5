"""Each loss reaches the parameters that it should and no others; the values are those of the formulas."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sparse_circuits.bridges import Bridge, BridgeConfig, BridgeLoss, observe
from sparse_circuits.bridges.losses import divergence, nmse
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.model.dense import Dense

ONLY = {"nmse": 1e-9, "kl_to_sparse": 0.0, "kl_to_dense": 0.0, "pretraining": 0.0}


@pytest.fixture
def models(sparse: Transformer, dense: Dense, bridge: Bridge) -> Iterator[tuple[Transformer, Dense, Bridge]]:
    yield sparse, dense, bridge
    assert all(parameter.grad is None for parameter in dense.parameters())


def reached(parts: BridgeLoss, name: str, batch: Tensor) -> set[str]:
    """Return what the gradient of one loss reaches: maps, or parts of the sparse model."""
    loss = parts(batch)
    assert torch.isfinite(loss)
    loss.backward()
    found = set()
    for who, module in (("sparse", parts.sparse), ("bridge", parts.bridge)):
        for parameter, p in module.named_parameters():
            if p.grad is not None and p.grad.abs().max() > 1e-6:
                found.add(f"{who}.{parameter.split('.')[0]}")
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nmse", {"bridge.encoders", "bridge.decoders", "sparse.embed", "sparse.layers"}),
        ("kl_to_sparse", {"bridge.encoders", "sparse.layers", "sparse.norm", "sparse.unembed", "sparse.bigram"}),
        ("kl_to_dense", {"bridge.decoders", "sparse.embed", "sparse.layers"}),
        ("pretraining", {"sparse.embed", "sparse.layers", "sparse.norm", "sparse.unembed", "sparse.bigram"}),
    ],
)
def test_each_loss_reaches_what_it_should(
    models: tuple[Transformer, Dense, Bridge], batch: Tensor, name: str, expected: set[str]
) -> None:
    parts = BridgeLoss(*models, BridgeConfig(**{**ONLY, name: 1.0}, n_places=None))
    assert reached(parts, name, batch) == expected


def test_parts_add_up_with_their_weights(sparse: Transformer, dense: Dense, bridge: Bridge, batch: Tensor) -> None:
    weights = {"nmse": 2.0, "kl_to_sparse": 3.0, "kl_to_dense": 5.0, "pretraining": 7.0}
    parts = BridgeLoss(sparse, dense, bridge, BridgeConfig(**weights, n_places=None)).eval()
    total = parts(batch)
    torch.testing.assert_close(total, sum(weight * parts.parts[name] for name, weight in weights.items()))
    torch.testing.assert_close(parts.parts["pretraining"], sparse.loss(batch[:, :-1], batch[:, 1:]))


@pytest.mark.parametrize("name", ["nmse", "kl_to_dense"])
def test_no_map_asks_the_sparse_stream_to_grow_or_to_shrink(
    models: tuple[Transformer, Dense, Bridge], batch: Tensor, name: str
) -> None:
    """What writes to the stream, taken times 1 + epsilon, scales it as a whole: no loss of the bridge changes by that."""
    sparse = models[0]
    writers = [sparse.embed.weight, *(p for n, p in sparse.named_parameters() if ".out." in n)]
    with torch.no_grad():
        for writer in writers:
            writer.mul_(30)  # so that the norms' epsilon is nothing
    loss = BridgeLoss(*models, BridgeConfig(**{**ONLY, name: 1.0}, n_places=None))(batch)
    found = torch.autograd.grad(loss, writers, allow_unused=True, materialize_grads=True)
    along = sum((gradient * writer).sum() for gradient, writer in zip(found, writers, strict=True))
    assert abs(along) < 1e-3 * sum(gradient.norm() * writer.norm() for gradient, writer in zip(found, writers, strict=True))


@torch.no_grad()
def test_the_errors_are_those_of_the_formula(sparse: Transformer, dense: Dense, bridge: Bridge, batch: Tensor) -> None:
    parts = BridgeLoss(sparse, dense, bridge, BridgeConfig()).eval()
    parts(batch)
    ours = observe(sparse, batch[:, :-1], [crossing.sparse for crossing in bridge.crossings]).streams
    theirs = observe(dense, batch[:, :-1], [crossing.dense for crossing in bridge.crossings]).streams
    expected = 0.0
    for place in range(5):
        for said, meant in (
            (bridge.encode(place, theirs[place]), ours[place]),
            (bridge.decode(place, ours[place]), theirs[place]),
        ):
            expected += ((said - meant) ** 2).sum() / (meant**2).sum()
    torch.testing.assert_close(parts.parts["nmse"], expected / 5)


@torch.no_grad()
def test_a_few_places_give_what_all_give_in_the_mean(sparse: Transformer, dense: Dense, bridge: Bridge, batch: Tensor) -> None:
    every, few = (BridgeLoss(sparse, dense, bridge, BridgeConfig(n_places=n)).eval() for n in (None, 1))
    every(batch)
    drawn = {}
    for _ in range(60):  # in which each of the five places is drawn
        few(batch)
        drawn[round(few.parts["kl_to_sparse"].item(), 5)] = few.parts["kl_to_dense"].item()
    assert len(drawn) == 5
    assert sum(drawn) / 5 == pytest.approx(every.parts["kl_to_sparse"].item(), abs=1e-4)
    assert sum(drawn.values()) / 5 == pytest.approx(every.parts["kl_to_dense"].item(), abs=1e-4)


def test_nmse_by_hand_and_its_gradient() -> None:
    said = torch.tensor([[1.0, 2.0]], requires_grad=True)
    meant = torch.tensor([[3.0, 4.0]], requires_grad=True)
    error = nmse(said, meant)
    torch.testing.assert_close(error, torch.tensor((4 + 4) / 25))
    error.backward()
    torch.testing.assert_close(meant.grad, torch.tensor([[4.0, 4.0]]) / 25)  # none through the denominator
    torch.testing.assert_close(said.grad, -meant.grad)


def test_divergence_by_hand() -> None:
    p, q = torch.tensor([0.25, 0.75]), torch.tensor([0.5, 0.5])
    found = divergence(q.log().view(1, 1, 1, 2), p.log().view(1, 1, 2))
    torch.testing.assert_close(found, torch.tensor([0.25 * torch.tensor(0.5).log() + 0.75 * torch.tensor(1.5).log()]))


def test_weights_that_cannot_be_are_refused() -> None:
    for change, says in (
        ({"nmse": 0.0}, "every map learns from it"),
        ({"kl_to_dense": -1.0}, "bridge.kl_to_dense is -1.0"),
        ({"encoder_fraction": 0.0}, "bridge.encoder_fraction is 0.0"),
        ({"n_places": 0}, "bridge.n_places is 0"),
    ):
        with pytest.raises(UserError, match=says):
            BridgeConfig(**change)
