"""The whole walk on a tiny model: corpus, training, doctor, circuit, report, from the command line."""

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from sparse_circuits import cli
from sparse_circuits.circuits import Circuit
from sparse_circuits.conf.verbs import AttackVerb, ExportVerb, ReportVerb, TrainVerb
from sparse_circuits.errors import UserError
from sparse_circuits.run import write_json
from sparse_circuits.subject import circuit_path
from sparse_circuits.summary import print_verdicts
from sparse_circuits.tasks import TASKS
from sparse_circuits.training.export import Trained
from sparse_circuits.walk import circuits, pages, quickstart, training
from sparse_circuits.walk.tasks import tasks_with_circuit

WORDS = ["data", "graph", "value", "items", "node", "path", "queue", "table", "list", "word", "line", "key", "total", "count"]

DATA = ["data.sources=[{kind:files,paths:['*.txt']}]", "data.d_vocab=290", "data.validation_fraction=0.1"]
TINY = [*DATA, "model.n_layers=1", "model.d_model=32", "model.d_head=8", "model.n_ctx=32", "l0_fraction=0.3"]


def line(rng: random.Random, opening: str, closing: str) -> str:
    """A line whose first word decides its last."""
    return f"    {opening} {' '.join(rng.choices(WORDS, k=rng.randint(2, 3)))} => {closing}\n"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    rng = random.Random(0)
    for number in range(600):  # a file speaks of one colour, so that one layer without positions can learn the rule
        side = rng.choice([("red", "stop"), ("green", "drive")])
        (tmp_path / f"{number}.txt").write_text("".join(line(rng, *side) for _ in range(10)))
    pairs = []
    for _ in range(1000):
        words = " ".join(rng.choices(WORDS, k=rng.randint(2, 3)))
        sides = {"pos": f"    red {words} =>", "neg": f"    green {words} =>"}
        pairs.append(sides | {"pos_answer": " stop", "neg_answer": " drive"})
    (tmp_path / "lights.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    return tmp_path


@pytest.mark.slow
def test_from_a_corpus_to_a_circuit_and_its_report(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(corpus)
    training = ["n_tokens=400000", "batch_size=16", "optimizer.lr=0.02", "checkpoint_every=0"]
    assert cli.main(["train", "run=walk", "tasks=[lights.jsonl]", *TINY, *training]) == 0
    assert cli.main(["tasks", "run=walk", "tasks=[lights.jsonl]", "n_pairs=40"]) == 0
    (diagnosis,) = json.loads((corpus / "walk" / "tasks.json").read_text())
    assert diagnosis["verdict"] == "known"

    sizes = ["extract.n_train_pairs=128", "extract.n_validation_pairs=32", "extract.n_held_out_pairs=32"]
    card = ["extract.card.n_controls=0", "extract.card.n_random=5", "extract.card.n_partial=2"]
    assert cli.main(["extract", "run=walk", "task=lights.jsonl", "extract.masks.n_edge_steps=20", *sizes, *card]) == 0
    kept = (corpus / "walk" / "circuits" / "lights.safetensors").read_bytes()
    capsys.readouterr()
    assert cli.main(["extract", "run=walk", "task=lights.jsonl", "budget=standard"]) == 0
    assert "is there already (budget=quick, objective=partial): overwrite=true" in capsys.readouterr().out
    assert (corpus / "walk" / "circuits" / "lights.safetensors").read_bytes() == kept
    circuit = Circuit.load(corpus / "walk" / "circuits" / "lights.safetensors")
    assert circuit.card["circuit"].loss < 0.3
    assert circuit.card["necessity"].loss > 0.5
    assert circuit.card.n_nodes < 200
    right = circuit.run("    red data =>", answers=(" stop", " drive"))
    assert right.positive > 0.5

    assert cli.main(["export", "run=walk", "tasks=[lights.jsonl]", "to=json"]) == 0
    assert json.loads((corpus / "walk" / "exports" / "lights.json").read_text())["graph"]

    assert cli.main(["report", "run=walk"]) == 0
    shown = json.loads((corpus / "walk" / "report.json").read_text())
    assert [circuit["task"] for circuit in shown["circuits"]] == ["lights"] and shown["samples"]
    capsys.readouterr()
    assert cli.main(["train", "run=walk", *TINY, *training]) == 2
    assert "resume=true" in capsys.readouterr().err


def test_multirun_trains_one_model_a_job_each_in_its_own_folder(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(corpus)
    monkeypatch.setattr(sys, "argv", sys.argv)
    sweep = ["train", "seed=3,4", "--multirun", "run=sweep", "tasks=[]", *TINY]
    assert cli.main([*sweep, "n_tokens=2048"]) == 0
    recorded = [json.loads((corpus / "sweep" / job / "run.json").read_text())["config"]["seed"] for job in ("0", "1")]
    assert recorded == [3, 4]
    assert (corpus / "sweep" / "multirun.yaml").exists()
    assert {path.name for path in corpus.iterdir() if path.is_dir()} == {"sweep", "data_cache"}
    capsys.readouterr()
    assert cli.main([*sweep, "n_tokens=1"]) == 2
    assert "below one step" in capsys.readouterr().err


@pytest.mark.slow
def test_a_quickstart_sums_up_twenty_tasks_and_a_finished_one_says_so_again(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(corpus)
    assert cli.main(["quickstart", "n_tokens=8192", *TINY, "model.n_ctx=128"]) == 0
    summary = json.loads((corpus / "runs" / "quickstart" / "summary.json").read_text())
    assert len(summary["tasks"]) == 20 and summary["tokens"] == 8192
    assert {row["name"]: row["known"] for row in summary["tasks"]}["single_double_quote"] is False
    assert (corpus / "runs" / "quickstart" / "report.html").exists()
    first = capsys.readouterr().out
    assert cli.main(["quickstart", "n_tokens=8192", *TINY, "model.n_ctx=128"]) == 0
    again = capsys.readouterr().out
    assert "single_double_quote" in again and "report.html" in again
    assert again in first


@pytest.fixture
def hasty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A walk without its work; returns its run folder."""
    monkeypatch.setattr(quickstart, "train", lambda config, console: None)
    monkeypatch.setattr(quickstart, "tasks", lambda config, console: [])
    monkeypatch.setattr(quickstart, "extract_known", lambda *_, **__: {})
    monkeypatch.setattr(quickstart, "write_report", lambda *_, **__: None)
    run = tmp_path / "[red]folder"
    write_json(run / "model.json", {"validation_loss": 2.5, "l0_fraction": 0.0625})
    return run


def test_a_finished_walk_is_that_of_its_settings(hasty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["quickstart", f"run='{hasty}'"]) == 0
    says = capsys.readouterr().out
    assert "8,998,912 tokens, validation loss 2.500, L0 0.0625\n" in says
    assert f"report: {hasty / 'report.html'}\n" in says
    assert cli.main(["quickstart", f"run='{hasty}'"]) == 0
    capsys.readouterr()
    assert cli.main(["quickstart", f"run='{hasty}'", "seed=1", "n_circuits=1", "extract.seed=1"]) == 2
    assert "was walked with other settings (seed, extract, n_circuits): give those" in capsys.readouterr().err


def test_a_walk_that_is_killed_at_its_page_is_not_finished(hasty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(quickstart, "write_report", kill)
    assert cli.main(["quickstart", f"run='{hasty}'"]) == 130
    assert not (hasty / "summary.json").exists()


def test_names_in_brackets_and_long_paths_are_printed_word_for_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "[red]folder"
    write_json(run / "model.json", {"validation_loss": 2.5, "n_nonzero": 1, "n_entries": 2, "l0_fraction": 0.5})
    monkeypatch.setattr(training, "pretrain", lambda *_, **__: Trained(None, None))
    monkeypatch.setattr(pages, "write_report", lambda *_, **__: run / "report.html")
    monkeypatch.setattr(circuits, "tasks_with_circuit", lambda *_: [TASKS["with_as"]])
    monkeypatch.setattr(circuits, "Circuit", SimpleNamespace(load=lambda path: None))
    monkeypatch.setattr(circuits, "export", lambda circuit, to, path: [path])
    console = Console(record=True, width=20)
    training.train(TrainVerb(run=run, tasks=[]), console)
    pages.report(ReportVerb(run=run), console)
    circuits.export_circuits(ExportVerb(run=run), console)
    print_verdicts([{"name": "[red]task", "circuit_verdict": "holds"}], console)
    says = console.export_text()
    for word in (run / "model", run / "report.html", run / "exports" / "with_as.py", "[red]task holds"):
        assert f"{word}\n" in says


def test_all_leaves_out_tasks_without_a_circuit_but_none_that_is_named(tmp_path: Path) -> None:
    path = circuit_path(tmp_path, "for_while")
    path.parent.mkdir()
    path.touch()
    assert [task.name for task in tasks_with_circuit(tmp_path, ["all", "with_as"])] == ["for_while", "with_as"]
    with pytest.raises(UserError, match="holds no circuit of the twenty tasks"):
        tasks_with_circuit(tmp_path / "other", ["all"])


@pytest.mark.parametrize(("do", "config"), [(circuits.export_circuits, ExportVerb), (circuits.attack, AttackVerb)])
def test_one_task_stands_in_the_place_of_all(do: Callable, config: type, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"for_while\.safetensors does not exist"):
        do(config(run=tmp_path, task="for_while"), Console())
