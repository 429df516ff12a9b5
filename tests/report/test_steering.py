"""Steering from a served page: the numbers of `steer`, each node's direction measured once."""

import json

import pytest
import torch

from sparse_circuits.bridges import Bridge, pair_sites
from sparse_circuits.bridges.load import Bridged
from sparse_circuits.bridges.steer import steer
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.report.server.api import answers
from sparse_circuits.report.server.live import N_LIKELY
from sparse_circuits.report.server.session import Session
from sparse_circuits.report.server.steering import Steering
from sparse_circuits.report.server.worker import Worker

NODE, FROM, TO = "1.attn.act_in[5]", "x = 'a", 'x = "a'


@pytest.fixture
def steering() -> Steering:
    tokenizer = Tokenizer.train(["ab"], d_vocab=257)

    def model(d_model: int, n_ctx: int) -> Transformer:
        config = ModelConfig(n_layers=2, d_model=d_model, d_head=4, n_ctx=n_ctx, abs_topk=1.0)
        made = Transformer(config, d_vocab=257).eval().requires_grad_(False)
        for weight in made.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
        return made

    sparse, dense = model(16, 32), model(8, 24)
    bridge = Bridge(pair_sites(sparse, dense), d_sparse=16, d_dense=8, encoder_fraction=0.5)
    bridge.sizes.fill_(1.0)
    return Steering(Bridged(sparse, dense, bridge, tokenizer), torch.randint(257, (4, 24)))


@pytest.mark.parametrize("strength", [0.0, 1.0, -3.0])
def test_what_the_page_sees_is_what_steer_returns(steering, strength):
    found = steering.push(NODE, FROM, TO, strength=strength)
    plain, pushed = (
        steer(steering.bridged, [NODE], FROM, TO, reference=steering.reference, strength=each) for each in (0.0, strength)
    )
    for likely, expected in ((found.before, plain), (found.after, pushed)):
        assert [each.probability for each in likely] == expected.topk(N_LIKELY).values.tolist()
    assert "".join(found.tokens) == FROM
    assert (found.before == found.after) == (strength == 0)


def test_over_the_api_with_a_direction_measured_once(steering, monkeypatch):
    worker = Worker()
    ask = answers(Session(None, [], steering, None), worker, keep_notes=pytest.fail)["api/steer"]
    body = json.dumps({"circuit_node": NODE, "from_prompt": FROM, "to_prompt": TO, "strength": 2}).encode()
    first = ask(body)
    monkeypatch.setattr("sparse_circuits.report.server.steering.directions", pytest.fail)
    assert ask(body) == first
    assert set(first) == {"tokens", "before", "after"}
    worker.close()


def test_mistakes_and_cancelling(steering):
    for node, there, strength, says in (
        ("1.attn.q[3]", TO, 1.0, "not at an act_in site"),
        ("1.attn.act_in[16]", TO, 1.0, "has 16 channels"),
        (NODE, TO + "b", 1.0, "6 and 7 tokens"),
        (NODE, "", 1.0, "0 tokens"),
        (NODE, "a" * 25, 1.0, "25 tokens, and the model reads 1 to 24"),
        (NODE, TO, 1e3, "from -100 to 100"),
    ):
        with pytest.raises(UserError, match=says):
            steering.push(node, FROM, there, strength=strength)
    with pytest.raises(RuntimeError, match="stop"):
        steering.push(NODE, FROM, TO, strength=1.0, proceed=stop)


def stop() -> None:
    raise RuntimeError("stop")
