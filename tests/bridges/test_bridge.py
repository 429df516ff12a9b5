from pathlib import Path

import pytest
import torch

from sparse_circuits.bridges import Bridge, Crossing, load_bridge, pair_sites, save_bridge
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.model.dense import Dense


def test_maps_are_matrices_in_the_models_own_units(bridge: Bridge) -> None:
    bridge.sizes.copy_(torch.rand_like(bridge.sizes) + 0.5)
    sparse, dense = torch.randn(5, 16), torch.randn(5, 8)
    torch.testing.assert_close(bridge.decode(2, sparse), sparse @ bridge.decoder_matrix(2).T)
    encoded, whole = bridge.encode(2, dense), dense @ bridge.encoder_matrix(2).T
    assert (encoded.count_nonzero(dim=1) == 8).all()  # half of sixteen channels
    torch.testing.assert_close(encoded[encoded != 0], whole[encoded != 0])
    assert encoded.abs().sum() >= 0.5 * whole.abs().sum()


def test_sizes_are_those_of_the_streams_so_far() -> None:
    bridge = Bridge([Crossing("0.resid_in", "0.resid_in")], d_sparse=2, d_dense=2, encoder_fraction=1.0)
    bridge.see_([torch.full((1, 3, 2), 4.0)], [torch.full((1, 3, 2), -0.5)])
    torch.testing.assert_close(bridge.sizes, torch.tensor([[4.0, 0.5]]))
    bridge.see_([torch.full((1, 3, 2), 5.0)], [torch.full((1, 3, 2), 0.5)])
    torch.testing.assert_close(bridge.sizes, torch.tensor([[4.1, 0.5]]))


def test_a_saved_bridge_is_the_same(bridge: Bridge, tmp_path: Path) -> None:
    save_bridge(bridge, tmp_path / "bridge.safetensors", sparse_hash="abc", dense="runs/dense")
    loaded, saved = load_bridge(tmp_path / "bridge.safetensors")
    assert (saved.sparse_hash, saved.dense) == ("abc", "runs/dense")
    assert loaded.crossings == bridge.crossings and loaded.kept == bridge.kept
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in bridge.state_dict().items())
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_sites_are_paired_one_by_one_or_by_a_map(sparse: Transformer, dense: Dense) -> None:
    assert pair_sites(sparse, dense)[1] == Crossing("0.resid_mid", "0.resid_mid")
    chosen = ["0.resid_mid:1.resid_in", "final_resid:final_resid"]
    assert pair_sites(sparse, dense, chosen) == [Crossing("0.resid_mid", "1.resid_in"), Crossing("final_resid", "final_resid")]


def test_what_cannot_be_paired_is_refused(sparse: Transformer, dense: Dense) -> None:
    deeper = Transformer(ModelConfig(n_layers=3, d_model=16), d_vocab=40)
    with pytest.raises(UserError, match="sparse model has 3 layers and the dense one 2: train a sparse one of 2, or give a"):
        pair_sites(deeper, dense)
    with pytest.raises(UserError, match=r'sparse model has no residual site "0\.resid" \(did you mean "0\.resid_in"'):
        pair_sites(sparse, dense, ["0.resid:0.resid_in"])
    with pytest.raises(UserError, match=r'dense model has no residual site "5\.resid_in"'):
        pair_sites(sparse, dense, ["0.resid_in:5.resid_in"])
    with pytest.raises(UserError, match="goes back, or twice to one place, in the dense model"):
        pair_sites(sparse, dense, ["0.resid_in:1.resid_in", "1.resid_in:0.resid_in"])
    with pytest.raises(UserError, match="goes back, or twice to one place, in the sparse model"):
        pair_sites(sparse, dense, ["0.resid_in:0.resid_in", "0.resid_in:1.resid_in"])
