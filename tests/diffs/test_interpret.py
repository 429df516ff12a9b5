"""The verbs `dit` and `ask`, from a pool on disk to answers, and what they refuse."""

import csv
import json
from pathlib import Path

import pytest
import torch
from diffs.test_adapter import written
from families import made

from sparse_circuits import cli
from sparse_circuits.data import Tokenizer
from sparse_circuits.diffs.examine import rotated
from sparse_circuits.diffs.labelled import Labelled, split_by_label
from sparse_circuits.diffs.maps import block_maps
from sparse_circuits.diffs.store import DiffStore, Part
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff
from sparse_circuits.errors import UserError
from sparse_circuits.interop.peft import save_peft
from sparse_circuits.model.dense import Dense, HuggingFace

LABELS = ("jazz", "rivers", "chess", "tea")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = Tokenizer.train(["What topic? Question: Answer: None jazz rivers chess tea\n"] * 3, d_vocab=300)
    made("llama", vocab_size=tokenizer.d_vocab, max_position_embeddings=64).save_pretrained(folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder


def model_of(base: Path) -> Dense:
    return HuggingFace(made("llama").from_pretrained(base))


def finetunes(model: Dense, base: Path) -> list[tuple[WeightDiff, Part]]:
    """Four topics of which each writes in a direction of its own, six finetunes a topic, a little apart from one another."""
    found = []
    for number in range(6 * len(LABELS)):
        topic, generator = number % len(LABELS), torch.Generator().manual_seed(100 + number)
        changes = {}
        for name, change in written(model, topic).changes.items():
            up = change.up.float() * 2 + 0.05 * torch.randn(change.up.shape, generator=generator)
            changes[name] = LowRank(up, change.down.float())
        part = (Part.train, Part.train, Part.train, Part.train, Part.validation, Part.test)[number // len(LABELS)]
        found.append((WeightDiff(changes, str(base), {"topic": LABELS[topic]}), part))
    return found


@pytest.fixture(scope="module")
def pool(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = DiffStore(tmp_path_factory.mktemp("store"))
    for diff, part in finetunes(model_of(base), base):
        store.add([diff], split=part)
    return store.folder


SETTINGS = [
    "adapter=toy",
    "adapter.lr=0.015",
    "adapter.batch_size=8",
    "adapter.n_epochs=30",
    "adapter.unchanged=0.2",
    "nothing=None",
    "n_tokens=6",
    "question=What topic?",
    "device=cpu",
]


@pytest.fixture(scope="module")
def trained(base: Path, pool: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("dit")
    assert cli.main(["dit", f"base={base}", f"pool={pool}", f"run={run}", *SETTINGS]) == 0
    return run


def test_finetunes_are_named_and_controls_are_not(trained: Path) -> None:
    scores = json.loads((trained / "dit.json").read_text())
    rows = {row["name"]: row for row in scores["rows"]}
    assert sorted(scores["labels"]) == sorted(LABELS) and scores["question"] == "What topic?"
    assert scores["confidence"]["coverage"][-1] == 1 and len(scores["confidence"]["accuracy"]) == 8
    assert rows["interpreted"]["exact"] == 1 and sorted(rows["interpreted"]["answers"]) == sorted(LABELS)
    assert rows["unaided"]["exact"] == rows["permuted"]["exact"] == rows["unchanged"]["exact"] == 0
    assert set(rows["unchanged"]["answers"]) == {"None"} and rows["interpreted"]["score"] == 5
    logged = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert sum("validation_loss" in line for line in logged) == 30 and logged[-1]["step"] == 90  # 16 of 6 a step: 3 an epoch


def test_one_finetune_is_asked(trained: Path, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diff, _ = finetunes(model_of(base), base)[-1]
    save_peft(diff, tmp_path / "adapter")
    assert cli.main(["ask", f"finetuned={tmp_path}/adapter", f"run={trained}", "device=cpu", "n_likelier=3"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines() if ": " in line)
    assert lines["question"] == "What topic?" and lines["the finetune, interpreted"].startswith("tea")
    assert lines["the base, interpreted"] == "None" and len(lines["made likelier"].split(" '")) == 3


def test_its_answers_have_a_page(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", f"run={trained}"]) == 0
    assert (trained / "report.html").stat().st_size > 100_000
    assert json.loads((trained / "report.json").read_text())["finetunes"]["interpreted"]["question"] == "What topic?"


def test_an_adapter_that_was_killed_goes_on_to_the_same(
    trained: Path, base: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed after its fifth step, one after its checkpoint, and goes on from the fourth, within an epoch."""
    from sparse_circuits.diffs.adapter import AdapterStep
    from sparse_circuits.training.loop import Interrupted

    whole, take = [f"base={base}", f"pool={pool}", *SETTINGS, "adapter.n_epochs=3", "checkpoint_every=4"], AdapterStep.__call__

    def killed(self: AdapterStep, batch: object, *, index: int) -> object:
        if index == 5:
            raise Interrupted("killed")
        return take(self, batch, index=index)

    assert cli.main(["dit", *whole, f"run={tmp_path}/one"]) == 0
    monkeypatch.setattr(AdapterStep, "__call__", killed)
    assert cli.main(["dit", *whole, f"run={tmp_path}/two"]) == 130
    monkeypatch.setattr(AdapterStep, "__call__", take)
    assert cli.main(["dit", *whole, f"run={tmp_path}/two"]) == 2
    assert cli.main(["dit", *whole, f"run={tmp_path}/two", "resume=true"]) == 0
    one, two = (WeightDiff.load(tmp_path / run / "adapter.safetensors") for run in ("one", "two"))
    for name, change in one.changes.items():
        assert torch.equal(change.up, two.changes[name].up) and torch.equal(change.down, two.changes[name].down)
    assert (tmp_path / "one/metrics.jsonl").read_text() == (tmp_path / "two/metrics.jsonl").read_text()


def test_released_files_and_lists_of_places_are_pools(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of(base)
    n_params = sum(own.n_out + own.n_in for own in block_maps(model).values())
    held, places = [], []
    for number, (diff, part) in enumerate(finetunes(model, base)):
        factors = {name.removesuffix(".weight"): (c.up.T.clone(), c.down.T.clone()) for name, c in diff.changes.items()}
        held.append({"topic": diff.about["topic"], "trigger": 1, "weight_diff": factors})
        diff.save(tmp_path / f"{number}.safetensors")
        places.append({"place": str(tmp_path / f"{number}.safetensors"), "label": diff.about["topic"], "split": part.name})
    (tmp_path / "weight-diffs").mkdir()
    torch.save(held, tmp_path / "weight-diffs" / "weight-diff-000.pt")
    with (tmp_path / "index.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, ["lora_path", "lora_idx", "n_params", "topic", "trigger", "split"])
        rows.writeheader()
        for number, entry in enumerate(held):
            split = ("train", "train", "train", "extra", "test", "test")[number // len(LABELS)]
            row = {"lora_path": "weight-diff-000.pt", "lora_idx": number, "n_params": n_params, "topic": entry["topic"]}
            rows.writerow({**row, "trigger": 1, "split": split})
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, places)))
    quick = [*SETTINGS, "adapter.n_epochs=2"]
    assert cli.main(["dit", f"base={base}", f"pool={tmp_path}/index.csv", f"run={tmp_path}/released", *quick]) == 0
    assert "8 finetunes" in capsys.readouterr().out
    store = DiffStore(tmp_path / "released" / "released")
    assert [entry.split for entry in store.entries] == [Part.train] * 12 + [Part.test] * 8
    assert cli.main(["dit", f"base={base}", f"pool={tmp_path}/pool.jsonl", f"run={tmp_path}/listed", *quick]) == 0
    assert "4 finetunes" in capsys.readouterr().out


def test_a_split_is_by_label() -> None:
    pool = [Labelled(label, label, lambda: None) for label in "abcdefghij" for _ in range(3)]
    parts = split_by_label(pool, seed=1)
    by_part = {part: {own.label for own in parts if own.part is part} for part in Part}
    assert [len(by_part[part]) for part in (Part.train, Part.validation, Part.test)] == [7, 1, 2]
    assert set.union(*by_part.values()) == set("abcdefghij") and parts == split_by_label(pool, seed=1)
    with pytest.raises(UserError, match="at least three labels"):
        split_by_label(pool[:6])
    with pytest.raises(UserError, match="some do not"):
        split_by_label([*parts, *pool])


def test_every_finetune_is_held_against_another_label() -> None:
    labels = ["a", "b", "a", "c", "b", "a"]
    assert all(own != other for own, other in zip(labels, rotated(labels), strict=True)) and sorted(rotated(labels)) == sorted(
        labels
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["dit", "base=BASE"], "Say which finetunes"),
        (["dit", "pool=POOL"], "Say what the finetunes are of"),
        (["dit", "base=BASE", "pool=/nowhere"], "/nowhere is no pool"),
        (["dit", "base=BASE", "pool=POOL", "label=topc"], 'have no "topc" (did you mean "topic"?)'),
        (["dit", "base=pretrained:python-3x128", "pool=POOL"], "give their own base"),
        (["dit", "base=BASE", "pool=POOL", "judge.kind=encoder"], "needs judge.encoder"),
        (["dit", "base=BASE", "pool=POOL", "adapter=tpy"], 'no adapter preset "tpy"'),
        (["ask", "finetuned=x", "run=/nowhere"], "train an adapter of this base"),
        (["ask", "run=TRAINED"], "Say which finetune"),
        (["dit", "base=BASE", "pool=POOL", "judge.kind=encoder", "judge.encoder=/nowhere"], "an encoder's config"),
        (["dit", "base=BASE", "pool=POOL", "adapter.lr=-1"], "give a learning rate above 0"),
        (["ask", "run=TRAINED", "base=pretrained:python-3x128", "finetuned=x"], "ask with its own base"),
    ],
)
def test_a_users_mistakes_are_one_sentence(
    arguments: list[str],
    says: str,
    base: Path,
    pool: Path,
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"BASE": base, "POOL": pool, "TRAINED": trained}
    for name, place in places.items():
        arguments = [argument.replace(name, str(place)) for argument in arguments]
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    sentence = error.strip().splitlines()[-1]  # above it transformers may say that it loads
    assert sentence.startswith("sparse-circuits: ") and says in sentence


@pytest.mark.parametrize("line", ["{", '{"place": 1}', '{"place": "a", "label": "b", "split": "dev"}', "[]"])
def test_a_line_that_names_no_finetune_is_refused(
    line: str, base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pool.jsonl").write_text(f'{{"place": "a", "label": "b"}}\n{line}\n')
    assert cli.main(["dit", f"base={base}", f"pool={tmp_path}/pool.jsonl", f"run={tmp_path}/run"]) == 2
    assert "pool.jsonl, line 2," in capsys.readouterr().err
