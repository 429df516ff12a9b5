"""`verify`: two models, a model and its export, a model and itself in float64."""

from pathlib import Path

import pytest
import torch

from sparse_circuits import cli
from sparse_circuits.data import Tokenizer
from sparse_circuits.interop.hugging_face import CODE, export_model
from sparse_circuits.interop.verify import against_itself, compare
from sparse_circuits.model import ModelConfig, Transformer, save_model
from tests.interop.openai_folder import BASE, made_state, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in our folder, its export, and a model of OpenAI's."""
    folder = tmp_path_factory.mktemp("verify")
    tokenizer = Tokenizer.train(["def f(x):\n    return x\n"] * 3, d_vocab=257)
    torch.manual_seed(0)
    model = Transformer(ModelConfig(n_layers=2, d_model=16, d_head=4, n_ctx=12), d_vocab=257)
    save_model(model, folder / "ours" / "model", tokenizer=tokenizer.to_json())
    export_model(model, tokenizer, folder / "exported")
    model.layers[1].mlp.out.weight.data[0, 0] += 1
    save_model(model, folder / "changed" / "model", tokenizer=tokenizer.to_json())
    write_folder(folder / "openai", BASE, made_state(BASE))
    return folder


def test_sites_tell_where_two_models_part(folder: Path) -> None:
    from sparse_circuits.training.export import load_trained

    one, two = (load_trained(folder / name).model for name in ("ours", "changed"))
    found = compare(one, two, torch.randint(257, (3, 12)))
    parted = [site for site, difference in found.sites.items() if difference > 0]
    assert parted == ["1.mlp.resid_delta.pre", "1.mlp.resid_delta", "final_resid", "final_rms"]
    assert found.logits > 0
    same = against_itself(one, torch.randint(257, (3, 12)))
    assert 0 < same.logits < 1e-4 and max(same.sites.values()) < 1e-4


@pytest.mark.parametrize(
    "arguments",
    [
        ["checkpoint=FOLDER/ours"],
        ["checkpoint=FOLDER/ours", "against=FOLDER/exported"],
        ["checkpoint=FOLDER/exported", "against=FOLDER/ours"],
        ["checkpoint=FOLDER/openai"],
    ],
)
def test_the_verb_prints_the_differences(arguments: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", *(each.replace("FOLDER", str(folder)) for each in arguments)]) == 0
    rows = [line.split("│") for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert float(rows[-1][2]) < 1e-4 and rows[-1][1].strip() == "logits"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Say what to verify"),
        (["checkpoint=FOLDER/ours", "against=FOLDER/openai"], "have different shapes"),
        (["checkpoint=FOLDER/openai", "against=FOLDER/exported"], "has a vocabulary of 257 and reads 12 tokens"),
        (["checkpoint=FOLDER/ours", "against=FOLDER/strange"], "is not the file that this project writes"),
        (["checkpoint=/nowhere"], "does not exist"),
    ],
)
def test_mistakes(arguments: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "strange").mkdir(exist_ok=True)
    (folder / "strange" / CODE).write_text("print('run')")
    assert cli.main(["verify", *(each.replace("FOLDER", str(folder)) for each in arguments)]) == 2
    said = capsys.readouterr()
    assert says in said.err and "run\n" not in said.out
