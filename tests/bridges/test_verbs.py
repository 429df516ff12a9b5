"""`bridge` and `steer` from the command line: a tiny bridge on a narrow corpus, steered, and one sentence for each mistake."""

import json
from pathlib import Path

import pytest
import torch

from sparse_circuits import cli
from sparse_circuits.conf.verbs import ViewVerb
from sparse_circuits.data import Tokenizer
from sparse_circuits.model import ModelConfig, Transformer, save_model
from sparse_circuits.tasks import TASKS, Split
from sparse_circuits.tasks.encode import raw_pairs
from sparse_circuits.walk.pages import load_session

TINY = ["model.n_layers=1", "model.d_model=16", "model.d_head=8", "model.n_ctx=96", "n_tokens=12_000", "batch_size=8"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verbs")
    pairs = raw_pairs(TASKS["single_double_quote"], split=Split.train, seed=0)
    tokenizer = Tokenizer.train([f"{(pair := next(pairs)).positive}{pair.negative}" for _ in range(300)], d_vocab=500)
    torch.manual_seed(0)
    dense = Transformer(ModelConfig(n_layers=1, d_model=8, d_head=8, n_ctx=96, abs_topk=1.0), d_vocab=tokenizer.d_vocab)
    save_model(dense, folder / "dense" / "model", tokenizer=tokenizer.to_json())
    return folder


def test_a_narrow_bridge_is_trained_and_steered(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sparse_circuits.bridges.narrow.N_PAIRS", 500)
    run = folder / "run"
    where = [f"run={run}", f"data.folder={folder / 'data'}", f"dense={folder / 'dense'}"]
    narrow = ["task_family=[single_double_quote]", "l0_fraction=0.4", "evaluation_batches=1", "evaluate_every=0"]
    assert cli.main(["bridge", *where, *TINY, *narrow]) == 0
    assert "every place" in capsys.readouterr().out
    (family,) = run.glob("task_family_*.jsonl")
    texts = [json.loads(line)["text"] for line in family.read_text().splitlines()]
    assert len(texts) == 1000 and len(set(texts)) > 800
    said = [
        'nodes=["0.attn.act_in[3]","0.mlp.act_in[1]"]',
        "steer.n_pairs=4",
        "steer.n_reference_tokens=512",
        "steer.strengths=[0,2]",
        "steer.n_random=2",
    ]
    assert cli.main(["steer", f"run={run}", *said]) == 0
    assert "push further than the other prompt does" in capsys.readouterr().out
    curves = json.loads((run / "steering" / "single_double_quote.json").read_text())["curves"]
    assert [point["strength"] for point in curves["raw"]] == [0, 2]
    assert (run / "steering" / "single_double_quote.png").exists()
    assert cli.main(["report", f"run={run}"]) == 0
    shown = json.loads((run / "report.json").read_text())
    assert len(shown["bridge"]["places"]) == 3 and shown["steering"][0]["features"][1]["node"] == "0.mlp.act_in[1]"
    assert cli.main(["steer", f"run={run}", "n_strongest=3", *said[1:]]) == 0
    assert len(set(json.loads((run / "steering" / "single_double_quote.json").read_text())["nodes"])) == 3
    capsys.readouterr()
    assert cli.main(["steer", f"run={run}", "n_strongest=3", said[0]]) == 2
    assert "Give nodes or n_strongest, not both" in capsys.readouterr().err
    assert cli.main(["steer", f"run={run}"]) == 2
    assert "holds no circuit of single_double_quote: extract it" in capsys.readouterr().err
    check_a_served_page_steers(run)


def check_a_served_page_steers(run: Path) -> None:
    session = load_session(ViewVerb(run=run), [])
    assert session.why_no_steering is None
    pushed = session.steering.push("0.attn.act_in[3]", "x = 'a", "x = 'b", strength=2.0)
    assert "".join(pushed.tokens) == "x = 'a" and len(pushed.after) == 10
    assert session.model.model is not None and session.describe()["steering"]
    (run / "bridge.safetensors").write_bytes(b"damaged")
    session = load_session(ViewVerb(run=run), [])
    assert session.steering is None and "bridge.safetensors" in session.why_no_steering


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bridge"], "Say what to bridge to"),
        (["bridge", "dense=/nowhere"], "/nowhere could not be loaded"),
        (
            ["bridge", "dense=DENSE", "model.n_layers=2"],
            "sparse model has 2 layers and the dense one 1: train a sparse one of 1",
        ),
        (["bridge", "dense=DENSE", 'bridge.site_map=["0.resid_in:1.resid_in"]'], 'no residual site "1.resid_in"'),
        (["bridge", "dense=DENSE", "checkpoint=pretrained:python-3x128"], "is not the dense one's"),
        (["bridge", "dense=DENSE", "bridge.nmse=0"], "every map learns from it"),
        (["steer", "run=/nowhere"], "does not exist"),
        (["steer", "steer.strengths=[]"], "steer.strengths is empty"),
    ],
)
def test_mistakes(
    arguments: list[str], says: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    arguments = [argument.replace("DENSE", str(folder / "dense")) for argument in arguments]
    assert cli.main(arguments) == 2
    assert says in capsys.readouterr().err
