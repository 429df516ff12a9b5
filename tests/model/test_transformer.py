"""The transformer: equal to plain tensor algebra, honest taps, exact survivors at every site."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from sparse_circuits.errors import UserError
from sparse_circuits.kernels.abs_topk.reference import abs_topk
from sparse_circuits.kernels.sink_attention.reference import attention_pattern
from sparse_circuits.model import ModelConfig, Transformer, links, node_sites, record, site_width
from sparse_circuits.model.config import Activation, PositionKind, Positions, SiteFractions
from sparse_circuits.model.sites import all_sites, residual_sites, rms_sites

SMALL = ModelConfig(n_layers=2, d_model=16, n_ctx=12, d_head=4)
VARIANTS = {
    "plain": SMALL,
    "relu": dataclasses.replace(SMALL, activation=Activation.relu, biases=False),
    "added": dataclasses.replace(SMALL, positions=Positions.added),
    "concatenated": dataclasses.replace(SMALL, positions=Positions.concatenated, d_pos=6),
    "sinusoidal": dataclasses.replace(SMALL, positions=Positions.concatenated, position_kind=PositionKind.sinusoidal),
    "tied": dataclasses.replace(SMALL, tied=True, sinks=False, bigram=False),
    "odd_heads": dataclasses.replace(SMALL, n_heads=3, d_head=5, d_mlp=24),
    "own_fractions": dataclasses.replace(SMALL, site_fractions=SiteFractions(attn_q=1.0, mlp_post_act=0.5, attn_v=0.1)),
}


def build(config: ModelConfig) -> Transformer:
    """A model with every parameter away from its initial zeros and ones."""
    model = Transformer(config, d_vocab=30).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return model


def by_hand(model: Transformer, tokens: torch.Tensor) -> torch.Tensor:
    """The same forward pass from the spec, in plain tensor algebra on the named weights."""
    config, w = model.config, dict(model.state_dict())
    eps = torch.finfo(torch.float32).eps

    def norm(x: torch.Tensor, gain: torch.Tensor) -> torch.Tensor:
        return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * gain

    def keep(kind: str, x: torch.Tensor) -> torch.Tensor:
        return abs_topk(x, max(1, int(config.fractions()[kind] * x.shape[-1])))

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    n_batch, n_pos = tokens.shape
    positions = model.positions.table[:n_pos] if model.positions is not None else None
    x = w["embed.weight"][tokens]
    if config.positions is Positions.added:
        x = x + positions
    for layer in range(config.n_layers):
        for part in ("attn", "mlp"):
            name = f"layers.{layer}.{part}"
            a = norm(x, w[f"{name}.reader.norm.gain"])
            if config.position_width:
                beside = norm(positions, w[f"{name}.reader.position_norm.gain"])
                a = torch.cat([a, beside.expand(n_batch, -1, -1)], -1)
            a = keep(f"{part}.act_in", a)
            if part == "attn":
                q, k, v = (keep(f"attn.{c}", y) for c, y in zip("qkv", linear(a, f"{name}.qkv").chunk(3, -1), strict=True))
                q, k, v = (y.view(n_batch, n_pos, config.heads, config.d_head).transpose(1, 2) for y in (q, k, v))
                y = (attention_pattern(q, k, w.get(f"{name}.sink")) @ v).transpose(1, 2).reshape(n_batch, n_pos, -1)
            else:
                y = linear(a, f"{name}.into")
                y = keep("mlp.post_act", F.relu(y) if config.activation is Activation.relu else F.gelu(y))
            x = x + keep(f"{part}.resid_delta", linear(y, f"{name}.out"))
    logits = norm(x, w["norm.gain"]) @ w["embed.weight" if config.tied else "unembed.weight"].T
    return logits + w["bigram"][tokens] if config.bigram else logits


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(30, (3, 10))


@pytest.mark.parametrize("name", VARIANTS)
def test_logits_equal_the_forward_pass_by_hand(name: str, tokens: torch.Tensor) -> None:
    model = build(VARIANTS[name])
    torch.testing.assert_close(model(tokens), by_hand(model, tokens))


@pytest.mark.parametrize("name", VARIANTS)
def test_loss_is_the_cross_entropy_of_the_logits(name: str, tokens: torch.Tensor) -> None:
    model = build(VARIANTS[name])
    targets = torch.randint(30, tokens.shape)
    expected = F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(model.loss(tokens, targets), expected)
    found = torch.autograd.grad(model.loss(tokens, targets), list(model.parameters()))
    torch.testing.assert_close(found, torch.autograd.grad(expected, list(model.parameters())))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_site_has_its_width_and_its_survivors(name: str, tokens: torch.Tensor) -> None:
    model = build(VARIANTS[name])
    values = record(model, tokens, "*")
    assert list(values) == all_sites(model.config)
    for site, value in values.items():
        assert value.shape == (*tokens.shape, site_width(model.config, site))
        kind = site.split(".", 1)[-1]
        if kind in model.config.fractions():
            assert (value != 0).sum(-1).max() <= model.config.survivors(kind, value.shape[-1])


def test_identity_taps_change_nothing_and_a_tap_changes_what_follows(tokens: torch.Tensor) -> None:
    model = build(SMALL)
    logits = model(tokens)
    assert torch.equal(model(tokens, taps={site: lambda x: x for site in all_sites(SMALL)}), logits)
    for site in all_sites(SMALL):
        assert not torch.equal(model(tokens, taps={site: torch.zeros_like}), logits), site


def test_run_from_every_residual_site_continues_the_same_pass(tokens: torch.Tensor) -> None:
    model = build(SMALL)
    for site, value in record(model, tokens, residual_sites(SMALL)).items():
        torch.testing.assert_close(model.run_from(site, value, tokens=tokens), model(tokens))


def test_logits_at_a_position_are_those_of_the_whole_pass(tokens: torch.Tensor) -> None:
    model = build(SMALL)
    at = torch.tensor([0, 4, 9])
    torch.testing.assert_close(model(tokens, at=at), model(tokens)[torch.arange(3), at])


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_reading_one_position_computes_no_other_from_the_last_mlp_on(config: ModelConfig) -> None:
    model, tokens, at = build(config), torch.randint(30, (3, 8)), torch.tensor([0, 4, 7])
    everywhere, there = record(model, tokens, "*"), record(model, tokens, "*", at=at)
    for site, value in there.items():
        if site.startswith("1.mlp.") or site.startswith("final"):
            assert torch.allclose(value, everywhere[site][torch.arange(3), at].unsqueeze(1), atol=1e-12), site
        else:
            assert torch.equal(value, everywhere[site]), site
    for site in residual_sites(config):
        from_there = model.run_from(site, everywhere[site], tokens=tokens, at=at)
        assert torch.allclose(from_there, model(tokens)[torch.arange(3), at], atol=1e-10)


def test_no_token_sees_the_future(tokens: torch.Tensor) -> None:
    model = build(SMALL)
    changed = tokens.clone()
    changed[:, 6:] = torch.randint(30, (3, 4))
    torch.testing.assert_close(model(changed)[:, :6], model(tokens)[:, :6])


def test_record_stops_early(tokens: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(SMALL)
    expected = record(model, tokens, "*")["0.attn.q"]
    monkeypatch.setattr(model.layers[1].attn, "forward", None)
    assert torch.equal(record(model, tokens, "0.attn.q")["0.attn.q"], expected)


@pytest.mark.parametrize("name", ["plain", "concatenated", "odd_heads"])
def test_link_weights_carry_the_source_into_the_target(name: str, tokens: torch.Tensor) -> None:
    model = build(VARIANTS[name])
    for link in links(model.config):
        weight = model.link_weight(link)
        assert weight.shape == (site_width(model.config, link.target), site_width(model.config, link.source))
        target = record(model, tokens, link.target)[link.target]
        with torch.no_grad():
            weight.zero_()
        assert not torch.equal(record(model, tokens, link.target)[link.target], target), link


def test_bf16_autocast_stays_close(tokens: torch.Tensor) -> None:
    model = build(dataclasses.replace(SMALL, abs_topk=1.0)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(tokens)
    assert logits.dtype == torch.float32
    assert (logits - model(tokens)).norm() < 0.05 * logits.norm()


def test_node_sites_are_nine_kinds() -> None:
    assert len(node_sites(SMALL)) == 8 * SMALL.n_layers + 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda model: model(torch.zeros(1, 13, dtype=torch.long)), "13 tokens do not fit the model's n_ctx = 12"),
        (lambda model: model(torch.zeros(1, 2, dtype=torch.long), taps={"0.attn.Q": abs}), 'no site "0.attn.Q"'),
        (lambda model: record(model, torch.zeros(1, 2, dtype=torch.long), "7.*"), 'matches "7.*"'),
        (
            lambda model: model.run_from("0.attn.q", torch.zeros(1, 2, 16), tokens=torch.zeros(1, 2, dtype=torch.long)),
            "start at the residual stream",
        ),
        (lambda model: ModelConfig(d_model=20), "does not divide d_model = 20"),
        (lambda model: ModelConfig(abs_topk=0.0), "AbsTopK share at attn.act_in is 0.0"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(call, says: str) -> None:
    with pytest.raises(UserError) as error:
        call(build(SMALL))
    assert says in str(error.value)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_a_site_follows_from_what_its_matrix_gave(config: ModelConfig) -> None:
    model, tokens = build(config), torch.randint(30, (2, 7))
    values = record(model, tokens, "*")
    activate = torch.relu if config.activation is Activation.relu else F.gelu
    for site, value in values.items():
        if (before := values.get(f"{site}.pre")) is not None:
            kind = ".".join(site.split(".")[1:])
            before = activate(before) if kind == "mlp.post_act" else before
            assert torch.allclose(value, abs_topk(before, config.survivors(kind, before.shape[-1])), atol=1e-12)


def test_norms_divide_by_what_their_tap_says() -> None:
    model, tokens = build(VARIANTS["concatenated"]), torch.randint(30, (2, 7))
    own = {site: value for site, value in record(model, tokens, "*").items() if site.endswith("rms")}
    assert own.keys() == set(rms_sites(model.config)) and all(value.shape == (2, 7, 1) for value in own.values())
    logits, at = model(tokens), torch.tensor([3, 6])
    taps = {site: lambda _, rms=rms: rms for site, rms in own.items()}
    assert torch.allclose(model(tokens, taps=taps), logits, atol=1e-10)
    half = model(tokens, taps={"final_rms": lambda rms: 2 * rms}) - model.bigram[tokens]
    assert torch.allclose(2 * half, logits - model.bigram[tokens], atol=1e-10)
    there = record(model, tokens, rms_sites(model.config), at=at)
    taps = {site: lambda _, rms=rms: rms for site, rms in there.items()}
    assert torch.allclose(model(tokens, taps=taps, at=at), logits[torch.arange(2), at], atol=1e-10)
    louder = record(model, tokens, "0.mlp.act_in", taps={"0.mlp.rms": lambda rms: rms / 3})["0.mlp.act_in"]
    assert not torch.allclose(louder, record(model, tokens, "0.mlp.act_in")["0.mlp.act_in"])


@pytest.mark.parametrize("name", ["plain", "tied", "odd_heads"])
def test_some_channels_of_heads_are_those_of_all(name: str, tokens: torch.Tensor) -> None:
    """In any order, with a head of which nothing is asked, and with and without sinks."""
    attention = build(VARIANTS[name]).layers[0].attn
    width = VARIANTS[name].d_attn
    q, k, v = (torch.randn(3, 10, width, dtype=torch.float64) for _ in range(3))
    only = torch.tensor([width - 1, 0, width - 3, 1])
    found = attention.attend(q, k, v, channels=only)
    torch.testing.assert_close(found, attention.attend(q, k, v)[..., only], rtol=1e-12, atol=1e-12)


def test_gradients_are_the_same_bits_on_several_threads() -> None:
    model = Transformer(SMALL, d_vocab=300)
    tokens = torch.randint(6, (32, SMALL.n_ctx))  # few, so that many rows add to one
    weight = torch.randn(32, SMALL.n_ctx, 300)

    def bigram_gradient() -> torch.Tensor:
        (found,) = torch.autograd.grad((model(tokens) * weight).sum(), [model.bigram])
        return found

    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = bigram_gradient()
        torch.set_num_threads(2)
        assert all(torch.equal(bigram_gradient(), alone) for _ in range(5))
    finally:
        torch.set_num_threads(n_threads)
