import pytest
import torch

from sparse_circuits.bridges import Bridge
from sparse_circuits.bridges.features import node_features, r_squared
from sparse_circuits.bridges.hybrid import observe
from sparse_circuits.bridges.load import Bridged
from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import Node, Transformer, record
from sparse_circuits.model.dense import Dense
from tests.bridges.models import D_VOCAB, N_CTX

NODE = Node("1.mlp.act_in", 3)


@pytest.fixture
def bridged(sparse: Transformer, dense: Dense, bridge: Bridge) -> Bridged:
    return Bridged(sparse, dense, bridge, Tokenizer.train(["def f(x):\n    return x\n"] * 3, d_vocab=257))


@torch.no_grad()
def test_a_nodes_counterpart_written_out(bridged: Bridged) -> None:
    rows = torch.randint(D_VOCAB, (5, N_CTX))
    (found,) = node_features(bridged, [NODE], rows, n_tokens=4)
    (stream,) = observe(bridged.dense, rows, ["1.resid_mid"]).streams
    row = bridged.bridge.encoder_matrix(3)[3]
    projection = (stream / stream.square().mean(-1, keepdim=True).sqrt()) @ row
    activation = record(bridged.sparse, rows, NODE.site)[NODE.site][..., 3]
    expected = torch.corrcoef(torch.stack([projection.flatten(), activation.flatten()]))[0, 1] ** 2
    assert found.r_squared == pytest.approx(expected.item(), rel=1e-3)
    assert (found.node, found.site) == ("1.mlp.act_in[3]", "1.resid_mid")
    torch.testing.assert_close(torch.tensor(found.direction), row / row.norm())
    largest = projection.flatten().abs().sort(descending=True).values[:4]
    assert [abs(each.projection) for each in found.tokens] == pytest.approx(largest.tolist(), rel=1e-4)
    place = projection.abs().flatten().argmax().item()
    assert found.tokens[0].activation == pytest.approx(activation.flatten()[place].item(), rel=1e-4)
    assert found.tokens[0].token == bridged.tokenizer.token(rows.flatten()[place].item())


def test_r_squared_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert r_squared(x, 5 - 2 * x) == pytest.approx(1)
    assert r_squared(x, torch.tensor([[1.0, 0.0, 1.0]])) == pytest.approx(0)
    assert r_squared(x, torch.tensor([[0.0, 0.0, 3.0]])) == pytest.approx(0.75)
    assert r_squared(x, torch.ones(1, 3)) == 0


def test_a_node_that_no_bridge_carries_is_refused(bridged: Bridged) -> None:
    with pytest.raises(UserError, match="not at an act_in site"):
        node_features(bridged, [Node("1.mlp.post_act", 3)], torch.zeros(1, 4, dtype=torch.long))
