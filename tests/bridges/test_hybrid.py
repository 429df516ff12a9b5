"""Hybrid passes: with the identity for a bridge they are the plain pass; together they are what each is alone."""

import torch
from torch import Tensor, nn

from sparse_circuits.bridges import Bridge, Crossing, alternate, into_dense, into_sparse, observe
from sparse_circuits.model import Transformer
from sparse_circuits.model.dense import Dense, HuggingFace
from sparse_circuits.model.sites import residual_sites
from tests.bridges.models import gpt2, transformer


def identity(model: Dense) -> Bridge:
    """A bridge from a model to itself that changes nothing."""
    d_model = model.config.d_model
    crossings = [Crossing(site, site) for site in residual_sites(model.config)]
    bridge = Bridge(crossings, d_sparse=d_model, d_dense=d_model, encoder_fraction=1.0)
    bridge.sizes.copy_(torch.rand(len(bridge.crossings), 1).expand(-1, 2) + 0.5)
    for each in (*bridge.encoders, *bridge.decoders):
        nn.init.eye_(each.weight)
    return bridge


def check_identity(model: Dense, tokens: Tensor) -> None:
    bridge, sites = identity(model), residual_sites(model.config)
    seen = observe(model, tokens, sites)
    plain = model(tokens)
    torch.testing.assert_close(seen.logits, plain)
    for crossed in (into_sparse, into_dense):
        logits = crossed(model, bridge, seen.streams, range(len(sites)), tokens=tokens)
        torch.testing.assert_close(logits, plain.expand_as(logits), rtol=1e-4, atol=1e-5)
    for dense_first in (True, False):
        logits = alternate(model, model, bridge, tokens=tokens, dense_first=dense_first)
        torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_with_an_identity_for_a_bridge_every_hybrid_is_the_plain_pass(batch: Tensor) -> None:
    check_identity(transformer(d_model=16, seed=0), batch[:, :-1])


@torch.no_grad()
def test_it_is_so_for_a_hugging_face_model(batch: Tensor) -> None:
    model: HuggingFace = gpt2(d_model=16)
    bridge, seen = identity(model), observe(model, batch[:, :-1], residual_sites(model.config))
    logits = into_dense(model, bridge, seen.streams, range(5), tokens=batch[:, :-1])
    torch.testing.assert_close(logits, seen.logits.expand_as(logits), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_passes_together_are_what_each_is_alone(sparse: Transformer, dense: Dense, bridge: Bridge, batch: Tensor) -> None:
    tokens = batch[:, :-1]
    of_dense = observe(dense, tokens, [crossing.dense for crossing in bridge.crossings]).streams
    of_sparse = observe(sparse, tokens, [crossing.sparse for crossing in bridge.crossings]).streams
    for cross, model, streams in ((into_sparse, sparse, of_dense), (into_dense, dense, of_sparse)):
        together = cross(model, bridge, streams, [0, 1, 3, 4], tokens=tokens)
        for row, place in zip(together, [0, 1, 3, 4], strict=True):
            torch.testing.assert_close(row, cross(model, bridge, streams, [place], tokens=tokens)[0])


@torch.no_grad()
def test_an_alternating_pass_written_out(sparse: Transformer, dense: Dense, bridge: Bridge, batch: Tensor) -> None:
    tokens, held = batch[:, :-1], {}

    def stop(model: Dense, start: str, value: Tensor, site: str) -> Tensor:
        model.run_from(start, value, tokens=tokens, taps={site: lambda x: held.update(x=x) or x})
        return held["x"]

    (x,) = observe(dense, tokens, ["0.resid_in"]).streams
    x = bridge.encode(1, stop(dense, "0.resid_in", x, "0.resid_mid"))
    x = bridge.decode(2, stop(sparse, "0.resid_mid", x, "1.resid_in"))
    x = bridge.encode(3, stop(dense, "1.resid_in", x, "1.resid_mid"))
    x = bridge.decode(4, stop(sparse, "1.resid_mid", x, "final_resid"))
    expected = dense.run_from("final_resid", x, tokens=tokens)
    torch.testing.assert_close(alternate(sparse, dense, bridge, tokens=tokens, dense_first=True), expected)
