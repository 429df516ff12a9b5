"""Held sites: the same as overwriting them, without computing what leads to them; and all of it where one records."""

from itertools import combinations

import pytest
import torch

from sparse_circuits.model import ModelConfig, Positions, Transformer, node_sites, record, site_width
from sparse_circuits.model.sites import FINAL
from sparse_circuits.model.taps import Held

CONFIG = ModelConfig(n_layers=2, d_model=16, n_ctx=8, d_head=4, positions=Positions.concatenated)
ATTENTION = ["attn.rms", "attn.act_in", *(f"attn.{name}" for name in ("q", "k", "v", "q.pre", "k.pre", "v.pre"))]
TOKENS = torch.arange(16).view(2, 8)


@pytest.fixture
def model() -> Transformer:
    return Transformer(CONFIG, d_vocab=20).double().requires_grad_(False)


@pytest.mark.parametrize("pair", [*combinations([site for site in node_sites(CONFIG) if site[0] == "1"], 2), (FINAL,)])
def test_held_sites_are_the_same_as_overwritten_ones(model: Transformer, pair: tuple[str, ...]) -> None:
    rows = {site: torch.randn(site_width(CONFIG, site)).double() for site in ("0.attn.q", "0.mlp.post_act", *pair)}
    overwritten = {site: lambda value, row=row: row.expand_as(value) for site, row in rows.items()}
    taps = {site: Held(row) for site, row in rows.items()}
    at = torch.tensor([7, 2])
    torch.testing.assert_close(model(TOKENS, taps=taps), model(TOKENS, taps=overwritten))
    torch.testing.assert_close(model(TOKENS, taps=taps, at=at), model(TOKENS, taps=overwritten, at=at))
    torch.testing.assert_close(record(model, TOKENS, "*", taps=taps), record(model, TOKENS, "*", taps=overwritten))


@pytest.mark.parametrize(
    ("held", "spared"),
    [
        ("mlp.resid_delta", ["mlp.rms", "mlp.act_in", "mlp.post_act.pre", "mlp.post_act", "mlp.resid_delta.pre"]),
        ("mlp.post_act", ["mlp.rms", "mlp.act_in", "mlp.post_act.pre"]),
        ("attn.resid_delta", [*ATTENTION, "attn.y", "attn.resid_delta.pre"]),
        ("attn.k", ["attn.k.pre"]),
        ("attn.act_in", ["attn.rms"]),
    ],
)
def test_what_leads_to_a_held_site_alone_is_not_computed(model: Transformer, held: str, spared: list[str]) -> None:
    called: list[str] = []

    def look(site: str):
        return lambda value: called.append(site) or value

    names = [site for site in record(model, TOKENS, "0.*") if site[2:] != held]
    model(
        TOKENS, taps={**{site: look(site) for site in names}, f"0.{held}": Held(torch.zeros(site_width(CONFIG, f"0.{held}")))}
    )
    assert set(names) - set(called) == {f"0.{name}" for name in spared}
