"""Held sites: the same as overwriting them, without computing what leads to them; and all of it where one records."""

from itertools import combinations

import pytest
import torch

from sparse_circuits.model import ModelConfig, Names, Positions, Transformer, node_sites, record, site_width
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


def test_names_of_transformer_lens_split_heads_and_leave_out_what_it_has_not() -> None:
    model = Transformer(ModelConfig(n_layers=2, d_model=16, d_head=4), d_vocab=20)
    tokens = torch.randint(20, (2, 5))
    ours = record(model, tokens, "*")
    theirs = record(model, tokens, "*", names=Names.transformer_lens)
    assert theirs["blocks.1.attn.hook_q"].shape == (2, 5, 4, 4)
    assert torch.equal(theirs["blocks.1.attn.hook_q"].flatten(2), ours["1.attn.q"])
    assert torch.equal(theirs["blocks.0.hook_attn_out"], ours["0.attn.resid_delta"])
    assert torch.equal(theirs["blocks.1.hook_resid_post"], ours["final_resid"])
    assert torch.equal(theirs["blocks.0.hook_resid_mid"] + theirs["blocks.0.hook_mlp_out"], theirs["blocks.1.hook_resid_pre"])
    assert len(theirs) == 2 * 12 + 2 and not any("act_in" in name for name in theirs)
