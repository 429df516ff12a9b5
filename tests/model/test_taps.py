"""Held sites: the same as overwriting them, without computing what leads to them; and all of it where one records.

Sites of which some channels are kept: the same as overwriting the others, which are then not read.
"""

from itertools import combinations

import pytest
import torch

from sparse_circuits.model import ModelConfig, Names, Positions, Transformer, node_sites, record, site_width
from sparse_circuits.model.sites import FINAL
from sparse_circuits.model.taps import Held, Kept, Look, Taps, chain, kept_by

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


def some_kept(share: float) -> Taps:
    """Return taps that keep so many channels of every site, and an MLP's neurons and a query beside a held key and value."""
    draw = torch.Generator().manual_seed(0)
    rows = {site: torch.randn(site_width(CONFIG, site), generator=draw).double() for site in node_sites(CONFIG)}
    kept = {site: torch.rand(len(row), generator=draw) < share for site, row in rows.items()}
    held = {site: Held(rows[site]) for site in ("1.attn.k", "1.attn.v")}
    return {**{site: Kept(kept[site], row) for site, row in rows.items()}, **held}


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_a_site_of_which_some_channels_are_kept_is_the_same_as_overwriting_the_others(model: Transformer, share: float) -> None:
    taps = some_kept(share)
    assert all(tap(torch.ones_like(tap.rest)).eq(1).equal(tap.share == 1) for tap in taps.values() if isinstance(tap, Kept))
    opaque = {site: lambda value, tap=tap: tap(value) for site, tap in taps.items()}
    torch.testing.assert_close(model(TOKENS, taps=taps), model(TOKENS, taps=opaque))
    torch.testing.assert_close(record(model, TOKENS, "*", taps=taps), record(model, TOKENS, "*", taps=opaque))


@pytest.mark.parametrize("site", ["0.attn.act_in", "1.attn.act_in", "0.mlp.act_in", "1.mlp.post_act"])
def test_of_a_site_of_which_few_channels_are_kept_nothing_else_is_read(model: Transformer, site: str) -> None:
    class Loud(Kept):
        def __call__(self, value: torch.Tensor) -> torch.Tensor:
            return super().__call__(value) + 1e3 * (1 - self.share)

    taps = some_kept(0.2)
    loud = {**taps, site: Loud(taps[site].share == 1, taps[site].rest)}
    torch.testing.assert_close(model(TOKENS, taps=loud), model(TOKENS, taps=taps))


def test_what_is_kept_shows_through_taps_that_only_look() -> None:
    first, last = (Kept(torch.arange(4) < n, torch.zeros(4)) for n in (1, 2))
    look, change = Look(lambda value: None), torch.tanh
    chains = [
        ([], None),
        ([first], first),
        ([first, look, look], first),
        ([change, first, look], first),
        ([first, last], last),
        ([first, change], None),
        ([first, change, look], None),
    ]
    for taps, expected in chains:
        assert kept_by(chain(*({"site": tap} for tap in taps)), "site") is expected
    seen = []
    both = chain({"site": first}, {"site": Look(seen.append)}, {"site": torch.neg})
    assert torch.equal(both["site"](torch.ones(4)), torch.tensor([-1.0, 0, 0, 0])) and seen[0].tolist() == [1, 0, 0, 0]


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
