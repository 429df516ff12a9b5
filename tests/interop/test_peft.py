"""Adapters go to PEFT and come back: its own library, our diffs and the merged model give the same logits."""

import json
from pathlib import Path

import peft
import pytest
import torch
from families import made
from torch import nn

from sparse_circuits.diffs.apply import applied
from sparse_circuits.diffs.maps import block_maps
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole
from sparse_circuits.errors import UserError
from sparse_circuits.interop.peft import load_peft, save_peft
from sparse_circuits.model.dense import HuggingFace

TOKENS = torch.tensor([[1, 5, 9, 2, 7]])
# Of the library's own, about a name of transformers' that it still uses.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def diff_of(model: nn.Module, *, dtype: torch.dtype) -> WeightDiff:
    generator, changes = torch.Generator().manual_seed(1), {}
    for number, (name, (_, n_out, n_in, _)) in enumerate(block_maps(HuggingFace(model)).items()):
        rank = 1 + number % 3
        up, down = (torch.randn(shape, generator=generator, dtype=dtype) for shape in ((n_out, rank), (rank, n_in)))
        changes[name] = LowRank(0.3 * up, 0.3 * down)
    return WeightDiff(changes, "here")


@pytest.mark.parametrize("family", ["gpt2", "llama", "qwen3", "gemma3_text", "gemma3"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_peft_computes_what_our_diff_does_and_gives_it_back(
    family: str, dtype: torch.dtype, tolerance: float, tmp_path: Path
) -> None:
    diff = diff_of(made(family).to(dtype), dtype=dtype)
    model = made(family).to(dtype)
    with applied(model, diff):
        expected = model(TOKENS).logits
    assert (expected - model(TOKENS).logits).abs().max() > 1e-3
    save_peft(diff, tmp_path, is_conv1d=family == "gpt2")
    theirs = peft.PeftModel.from_pretrained(made(family).to(dtype), tmp_path, autocast_adapter_dtype=False).eval()
    torch.testing.assert_close(theirs(TOKENS).logits, expected, rtol=0, atol=tolerance)
    back = load_peft(tmp_path)
    assert back.base == "here" and back.changes.keys() == diff.changes.keys()
    with applied(model, back):
        torch.testing.assert_close(model(TOKENS).logits, expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    "settings",
    [
        {"lora_alpha": 16},
        {"lora_alpha": 3, "use_rslora": True},
        {"rank_pattern": {"q_proj": 3}, "alpha_pattern": {"q_proj": 7}},
    ],
    ids=["alpha", "rslora", "patterns"],
)
def test_an_adapter_of_the_library_is_read_with_its_scale(settings: dict[str, object], tmp_path: Path) -> None:
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "down_proj"], **settings)
    theirs = peft.get_peft_model(made("llama").double(), config, autocast_adapter_dtype=False).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if "lora_" in name:
                parameter.normal_(generator=torch.Generator().manual_seed(len(name)))
    theirs.double().save_pretrained(tmp_path)
    model = made("llama").double()
    with applied(model, load_peft(tmp_path)):
        torch.testing.assert_close(model(TOKENS).logits, theirs(TOKENS).logits, rtol=0, atol=1e-9)


def test_what_is_no_plain_lora_is_refused(tmp_path: Path) -> None:
    diff = diff_of(made("llama"), dtype=torch.float32)
    save_peft(diff, tmp_path)
    path = tmp_path / "adapter_config.json"
    good = json.loads(path.read_text())
    for change, said in (
        ({"peft_type": "IA3"}, "not of a LoRA adapter"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "replaces whole modules"),
        ({"bias": "all"}, "trains biases"),
    ):
        path.write_text(json.dumps(good | change))
        with pytest.raises(UserError, match=said):
            load_peft(tmp_path)
    path.write_text("{")
    with pytest.raises(UserError, match="is no JSON"):
        load_peft(tmp_path)
    path.write_text(json.dumps(good))
    weights = tmp_path / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="truncated"):
        load_peft(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match="safe_serialization"):
        load_peft(tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        load_peft(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"Could not write .* \(Not a directory\)"):
        save_peft(diff, tmp_path / "adapter_config.json" / "below")
    with pytest.raises(UserError, match="factors alone"):
        save_peft(WeightDiff({"x.weight": Whole(torch.ones(2, 2))}, "b"), tmp_path)


def test_the_other_models_adapter_is_refused_when_it_is_applied(tmp_path: Path) -> None:
    save_peft(diff_of(made("gpt2"), dtype=torch.float32), tmp_path, is_conv1d=True)
    model = made("llama")
    with pytest.raises(UserError, match="the diff is of another model"), applied(model, load_peft(tmp_path)):
        pass
