"""Files that check themselves: exact round trips, small when sparse, refusals when damaged."""

import os
import resource
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer, load_model, save_model
from sparse_circuits.model.config import PositionKind, Positions
from sparse_circuits.model.store import load_weights, model_hash, read_tensors, write_tensors
from sparse_circuits.run import replacing

SHAPE = ModelConfig(n_layers=1, d_model=16, d_head=4, n_ctx=8)


def test_round_trip_of_every_kind_of_tensor(tmp_path: Path) -> None:
    sparse = torch.randn(50, 40) * (torch.rand(50, 40) < 0.1)
    tensors = {
        "sparse": sparse,
        "dense": torch.randn(50, 40),
        "half": sparse.bfloat16(),
        "empty": torch.zeros(3, 5),
        "vector": torch.zeros(7),
        "scalar": torch.tensor(3.0),
        "ids": torch.arange(6).view(2, 3),
    }
    write_tensors(tmp_path / "file", tensors, kind="test", metadata={"a": [1, "b"]})
    found = read_tensors(tmp_path / "file", kind="test")
    assert found.metadata == {"a": [1, "b"]}
    assert found.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


def test_a_sixteenth_dense_takes_an_eighth_of_the_space(tmp_path: Path) -> None:
    weight = torch.randn(512, 512)
    write_tensors(tmp_path / "dense", {"w": weight}, kind="test")
    write_tensors(tmp_path / "sparse", {"w": weight * (torch.rand(512, 512) < 1 / 16)}, kind="test")
    assert (tmp_path / "sparse").stat().st_size < (tmp_path / "dense").stat().st_size / 7


@pytest.mark.parametrize(
    "config",
    [
        SHAPE,
        ModelConfig(n_layers=1, d_model=16, d_head=4, n_ctx=8, tied=True, bigram=False, sinks=False),
        ModelConfig(
            n_layers=1,
            d_model=16,
            d_head=4,
            n_ctx=8,
            positions=Positions.concatenated,
            position_kind=PositionKind.sinusoidal,
        ),
    ],
)
def test_a_loaded_model_is_the_saved_one(config: ModelConfig, tmp_path: Path) -> None:
    model = Transformer(config, d_vocab=30)
    save_model(model, tmp_path, tokenizer="{}")
    random_state = torch.get_rng_state()
    loaded, tokenizer = load_model(tmp_path)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert tokenizer == "{}"
    assert loaded.config == config
    assert model_hash(loaded) == model_hash(model)
    tokens = torch.randint(30, (2, 8))
    assert torch.equal(loaded(tokens), model(tokens))


def test_the_hash_tells_one_weight_apart() -> None:
    model = Transformer(SHAPE, d_vocab=30)
    before = model_hash(model)
    with torch.no_grad():
        model.norm.gain[3] += 1e-6
    assert model_hash(model) != before


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_are_readable_to_whom_the_umask_lets(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_tensors(tmp_path / "file", {"w": torch.zeros(3)}, kind="test")
        with replacing(tmp_path / "folder") as folder:
            folder.mkdir()
            save_file({"w": torch.zeros(3)}, folder / "file")
    finally:
        assert os.umask(before) == mask
    for path in (tmp_path / "file", tmp_path / "folder" / "file"):
        assert stat.S_IMODE(path.stat().st_mode) == mode


def test_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_tensors(path, {"w": torch.randn(100, 10)}, kind="test")
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    with pytest.raises(UserError, match="truncated"):
        read_tensors(path, kind="test")
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match="checksum"):
        read_tensors(path, kind="test")
    path.write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="no safetensors file"):
        read_tensors(path, kind="test")
    with pytest.raises(UserError, match="does not exist"):
        read_tensors(tmp_path / "nowhere", kind="test")


def test_foreign_files_and_other_kinds_are_refused(tmp_path: Path) -> None:
    save_file({"w": torch.zeros(3)}, tmp_path / "foreign")
    with pytest.raises(UserError, match="not written by sparse_circuits"):
        read_tensors(tmp_path / "foreign", kind="model")
    write_tensors(tmp_path / "means", {"w": torch.zeros(3)}, kind="means")
    with pytest.raises(UserError, match="holds a means, not a model"):
        read_tensors(tmp_path / "means", kind="model")


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    model = Transformer(SHAPE, d_vocab=30)
    with pytest.raises(UserError, match=r"bigram is \[31, 31\] in the file and \[30, 30\]"):
        load_weights(model, Transformer(SHAPE, d_vocab=31).state_dict(), source=tmp_path)
    with pytest.raises(UserError, match="bigram missing or unexpected"):
        weights = model.state_dict()
        weights.pop("bigram")
        load_weights(model, weights, source=tmp_path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_tensors(path, {"w": torch.ones(3)}, kind="test")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # to safetensors a disk that is full
    try:
        with pytest.raises(UserError, match=r"Could not write .*file \(.*File too large.*\): free space"):
            write_tensors(path, {"w": torch.randn(100, 100)}, kind="test")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert torch.equal(read_tensors(path, kind="test").tensors["w"], torch.ones(3))
    assert [each.name for each in tmp_path.iterdir()] == ["file"]
