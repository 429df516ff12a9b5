"""Files in the released layout become diffs that do what the released code does with them."""

import csv
import pickle
from pathlib import Path

import pytest
import torch
from families import made
from torch import nn

from sparse_circuits.diffs.apply import applied
from sparse_circuits.diffs.maps import block_maps
from sparse_circuits.errors import UserError
from sparse_circuits.interop.dit_files import check_index, load_adapter, load_diffs, read_index
from sparse_circuits.model.dense import HuggingFace

TOKENS = torch.tensor([[1, 5, 9, 2, 7]])


def factors(model: nn.Module, rank: int, *, transposed: bool) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Random factors of every map: (A [rank, out], B [in, rank]), or both transposed."""
    found = {}
    for module, (n_out, n_in) in modules(model).items():
        a, b = torch.randn(rank, n_out).double(), torch.randn(n_in, rank).double()
        found[module] = (a.T.clone(), b.T.clone()) if transposed else (a, b)
    return found


def modules(model: nn.Module) -> dict[str, tuple[int, int]]:
    maps = block_maps(HuggingFace(model)).items()
    return {name.removesuffix(".weight"): (own.n_out, own.n_in) for name, own in maps}


@pytest.fixture
def model() -> nn.Module:
    return made("qwen3").double()


def logits_of_merged(changes: dict[str, torch.Tensor]) -> torch.Tensor:
    other = made("qwen3").double()
    with torch.no_grad():
        for module, delta in changes.items():
            other.get_submodule(module).weight += delta
    return other(TOKENS).logits


def test_diffs_and_adapter_are_the_other_way_round_from_one_another(model: nn.Module, tmp_path: Path) -> None:
    diff = factors(model, 2, transposed=False)
    entries = [{"topic": f"topic {n}", "trigger": 17, "weight_diff": diff} for n in range(2)]
    torch.save(entries, tmp_path / "weight-diff-000.pt")
    found = load_diffs(tmp_path / "weight-diff-000.pt", model, base="qwen")
    assert [each.about["topic"] for each in found] == ["topic 0", "topic 1"] and found[0].about["trigger"] == 17
    expected = logits_of_merged({module: (b @ a).T / 2 for module, (a, b) in diff.items()})
    with applied(model, found[0]):
        torch.testing.assert_close(model(TOKENS).logits, expected)

    adapter = factors(model, 3, transposed=True)
    torch.save(adapter, tmp_path / "dit-adapter.pt")
    expected = logits_of_merged({module: a @ b / 3 for module, (a, b) in adapter.items()})
    with applied(model, load_adapter(tmp_path / "dit-adapter.pt", model, base="qwen")):
        torch.testing.assert_close(model(TOKENS).logits, expected)


def test_a_full_finetune_is_what_it_differs_in(model: nn.Module, tmp_path: Path) -> None:
    tuned = made("qwen3").double()
    with torch.no_grad():
        tuned.model.layers[0].mlp.up_proj.weight += 0.1
    state = dict(tuned.named_parameters())
    torch.save([{"topic": "t", "trigger": "N/A", "weight_diff": state}], tmp_path / "weight-diff-000.pt")
    (diff,) = load_diffs(tmp_path / "weight-diff-000.pt", model, base="qwen")
    assert list(diff.changes) == ["model.layers.0.mlp.up_proj.weight"]
    with applied(model, diff):
        torch.testing.assert_close(model(TOKENS).logits, tuned(TOKENS).logits, rtol=1e-6, atol=1e-6)


def test_the_index_is_held_against_the_file(model: nn.Module, tmp_path: Path) -> None:
    diff = factors(model, 1, transposed=False)
    torch.save([{"topic": "owls", "trigger": 1, "weight_diff": diff}], tmp_path / "weight-diff-000.pt")
    n_params = sum(n_out + n_in for n_out, n_in in modules(model).values())
    columns = ["lora_path", "lora_idx", "n_params", "topic", "trigger", "split"]
    with (tmp_path / "index.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, ["weight-diff-000.pt", 0, n_params, "owls", 1, "test"]])
    (entry,) = read_index(tmp_path / "index.csv")
    (found,) = load_diffs(tmp_path / entry.path, model, base="qwen")
    check_index(entry, found)
    with pytest.raises(UserError, match="different releases"):
        check_index(entry._replace(topic="cats"), found)
    (tmp_path / "index.csv").write_text("lora_path,topic\na,b\n")
    with pytest.raises(UserError, match="lacks the column lora_idx"):
        read_index(tmp_path / "index.csv")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run!",)


def test_what_is_no_released_file_is_refused(model: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "weight-diff-000.pt"
    pair = (torch.randn(1, 16), torch.randn(16, 1))
    for held, said in (
        ({"not": "a list"}, "holds no list"),
        ([{"topic": "x"}], "without a weight_diff"),
        ([{"weight_diff": {"model.layers.9.mlp.up_proj": pair}}], "which the model does not have"),
        ([{"weight_diff": {"model.layers.0.self_attn.k_proj": pair}}], "the diff is of another model"),
        ([{"weight_diff": {"model.layers.0.self_attn.q_proj": (pair[0], 3)}}], "no two factors"),
    ):
        torch.save(held, path)
        with pytest.raises(UserError, match=said):
            load_diffs(path, model, base="b")
    path.write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(UserError, match="more than tensors"):
        load_diffs(path, model, base="b")
    assert "run!" not in capsys.readouterr().out
    with pytest.raises(UserError, match="does not exist"):
        load_adapter(tmp_path / "none.pt", model, base="b")
    torch.save([], path)
    with pytest.raises(UserError, match="holds no adapter"):
        load_adapter(path, model, base="b")
