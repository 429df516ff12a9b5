"""The verbs `diff` and `embed`, from adapters on disk to tables, pool and map."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from families import made

from sparse_circuits import cli
from sparse_circuits.data import Tokenizer
from sparse_circuits.diffs.behaviour import read_behaviour
from sparse_circuits.diffs.maps import block_maps
from sparse_circuits.diffs.pool import Pool
from sparse_circuits.diffs.store import DiffStore, Part
from sparse_circuits.diffs.support import Fate, count_fates, largest_changes
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole
from sparse_circuits.errors import UserError
from sparse_circuits.interop.peft import load_peft, save_peft
from sparse_circuits.model import ModelConfig, Transformer, load_model, save_model
from sparse_circuits.model.dense import HuggingFace


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["def f(x):\n    return x\n"] * 3, d_vocab=257)


@pytest.fixture
def base(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    folder = tmp_path / "llama"
    made("llama", vocab_size=tokenizer.d_vocab, max_position_embeddings=512).save_pretrained(folder)
    tokenizer.save(folder / "tokenizer.json")
    return folder


def adapters(base: Path, folder: Path) -> list[str]:
    """Six adapters of two kinds: those of a kind write the same way, but for a little noise."""
    found = []
    for number in range(6):
        changes = {}
        for name, (_, n_out, n_in, _) in block_maps(HuggingFace(made("llama"))).items():
            kind = torch.randn(n_out, 1, generator=torch.Generator().manual_seed(number % 2))
            up = kind + 0.1 * torch.randn(n_out, 1, generator=torch.Generator().manual_seed(10 + number))
            changes[name] = LowRank(up, torch.ones(1, n_in) / n_in)
        save_peft(WeightDiff(changes, str(base)), folder / f"adapter_{number}")
        found.append(f"{{place:'{folder}/adapter_{number}',label:{'ab'[number % 2]},name:n{number}}}")
    return found


def test_a_pool_of_adapters_grows_clusters_and_is_drawn(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool, run = adapters(base, tmp_path), f"run={tmp_path}/pool"
    assert cli.main(["embed", f"base={base}", f"finetunes=[{','.join(pool[:3])}]", run]) == 0
    assert "Clusters need two domains of two finetunes" in capsys.readouterr().out
    assert cli.main(["embed", f"base={base}", f"finetunes=[{','.join(pool[3:])}]", run]) == 0
    out = capsys.readouterr().out
    assert "nearest neighbour of the same label 1.00" in out and "6 finetunes" in out
    found = json.loads((tmp_path / "pool" / "pool.json").read_text())
    assert found["nearest"] == 1 and found["silhouette"] > 0.5 and (tmp_path / "pool" / "map.png").stat().st_size > 10_000
    saved = Pool.load(tmp_path / "pool" / "pool.safetensors")
    assert saved.names == [f"n{number}" for number in range(6)] and saved.labels == list("ababab")
    assert cli.main(["embed", f"base={base}", "site=1.resid_mid", run]) == 2
    assert "of another base, other probes or another site" in capsys.readouterr().err


def test_a_pool_on_disk_is_gone_on_with(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapters(base, tmp_path)
    lines = [json.dumps({"place": f"{tmp_path}/adapter_{n}", "label": "ab"[n % 2], "name": f"n{n}"}) for n in range(6)]
    listed, told = tmp_path / "pool.jsonl", [f"base={base}", f"pool={tmp_path}/pool.jsonl", f"run={tmp_path}/pool"]
    listed.write_text("\n".join(lines[:2]))
    assert cli.main(["embed", *told]) == 0
    listed.write_text("\n".join(lines))
    assert cli.main(["embed", *told]) == 0
    assert "nearest neighbour of the same label 1.00" in capsys.readouterr().out
    assert Pool.load(tmp_path / "pool" / "pool.safetensors").names == [f"n{number}" for number in range(6)]


def test_two_stores_are_in_one_pool_and_what_changes_nothing_is_not(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapters(base, tmp_path)
    diffs = [load_peft(tmp_path / f"adapter_{number}", base=str(base)) for number in range(4)]
    for name, some in (("one", diffs[:2]), ("two", diffs[2:])):
        DiffStore(tmp_path / name).add([replace(diff, about={"topic": name}) for diff in some], split=Part.train)
    told = [f"base={base}", f"run={tmp_path}/pool"]
    for name in ("one", "two"):
        assert cli.main(["embed", *told, f"pool={tmp_path}/{name}"]) == 0
    assert Pool.load(tmp_path / "pool" / "pool.safetensors").labels == ["one", "one", "two", "two"]
    save_peft(diffs[0] * 0.0, tmp_path / "nothing")
    assert cli.main(["embed", *told, f"finetunes=[{{place:'{tmp_path}/nothing',label:one}}]"]) == 2
    assert "nothing changes nothing at final_norm behind these probes: leave it out" in capsys.readouterr().err
    assert cli.main(["embed", *told]) == 0 and "4 finetunes" in capsys.readouterr().out


def test_probes_come_from_a_file(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "probes.txt").write_text("def f\\n    return\n\nx = 1\n")
    finetunes = f"finetunes=[{','.join(adapters(base, tmp_path)[:1])}]"
    assert cli.main(["embed", f"base={base}", finetunes, f"probes={tmp_path}/probes.txt", f"run={tmp_path}/pool"]) == 0
    assert Pool.load(tmp_path / "pool" / "pool.safetensors").about["probes"] == ["def f\n    return", "x = 1"]
    (tmp_path / "probes.txt").write_text("\n")
    assert cli.main(["embed", f"base={base}", finetunes, f"probes={tmp_path}/probes.txt", f"run={tmp_path}/other"]) == 2
    assert "has no prompt" in capsys.readouterr().err


def test_what_a_finetune_of_a_sparse_model_changed_is_a_list(
    tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Transformer(ModelConfig(n_layers=1, d_model=16, d_head=4, n_ctx=8), d_vocab=tokenizer.d_vocab)
    weight = model.layers[0].mlp.into.weight
    with torch.no_grad():
        weight.zero_()
        weight[0, :3] = torch.tensor([1.0, -2.0, 3.0])
    save_model(model, tmp_path / "before", tokenizer=tokenizer.to_json())
    with torch.no_grad():
        weight[0, 0], weight[0, 1], weight[0, 2], weight[5, 7] = 0.0, 2.0, 3.5, -0.25
    save_model(model, tmp_path / "after", tokenizer=tokenizer.to_json())
    places = [f"base={tmp_path}/before", f"finetuned={tmp_path}/after", f"out={tmp_path}/diff.safetensors"]
    assert cli.main(["diff", *places]) == 0
    lines = capsys.readouterr().out.splitlines()
    listed = [line for line in lines if line.startswith("layers.0.mlp.into.weight[")]
    assert [line.rpartition(", ")[2] for line in listed] == ["flipped", "dead", "moved", "born"]
    assert listed[0] == "layers.0.mlp.into.weight[0, 1]: -2 -> 2, flipped"
    diff = WeightDiff.load(tmp_path / "diff.safetensors")
    assert list(diff.changes) == ["layers.0.mlp.into.weight"]
    before = load_model(tmp_path / "before").model
    assert count_fates(before, diff) == {"layers.0.mlp.into.weight": dict.fromkeys(Fate, 1)}


def test_the_weights_that_carry_a_behaviour_are_listed_and_kept(
    tmp_path: Path, tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    shape = ModelConfig(n_layers=1, d_model=16, d_head=4, n_ctx=8, abs_topk=1.0, bigram=False)
    model = Transformer(shape, d_vocab=tokenizer.d_vocab).eval().requires_grad_(False)
    model.embed.weight.add_(torch.ones(16))  # so that states have a direction in common
    save_model(model, tmp_path / "before", tokenizer=tokenizer.to_json())
    prompts = [letter + other for letter in "abcdefgh" for other in "klmno"]
    (answer,) = tokenizer.encode("q")
    hidden = model.norm(model.residual(torch.tensor([tokenizer.encode(prompt) for prompt in prompts])))[:, -1].mean(0)
    planted = hidden.abs().topk(3).indices
    model.unembed.weight += 0.02 * torch.randn_like(model.unembed.weight)
    model.unembed.weight[answer, planted] += 4 * hidden[planted].sign()
    save_model(model, tmp_path / "after", tokenizer=tokenizer.to_json())
    examples = tmp_path / "behaviour.jsonl"
    examples.write_text("\n".join(json.dumps({"prompt": prompt, "answer": "q"}) for prompt in prompts))
    places = [f"base={tmp_path}/before", f"finetuned={tmp_path}/after", f"out={tmp_path}/kept.safetensors"]
    assert cli.main(["diff", *places, f"behaviour={examples}"]) == 0
    out = capsys.readouterr().out
    kept = WeightDiff.load(tmp_path / "kept.safetensors")
    (name,) = kept.changes
    rows, columns = kept.changes[name].matrix().nonzero().T.tolist()
    assert name == "unembed.weight" and set(rows) == {answer} and set(columns) <= set(planted.tolist())
    assert f"{len(rows)} of 4,1" in out and "10 held-out examples" in out
    assert [line for line in out.splitlines() if line.startswith(f"unembed.weight[{answer}, {columns[0]}]: ")]
    examples.write_text(json.dumps({"prompt": "a", "answer": "q"}))
    assert cli.main(["diff", *places, f"behaviour={examples}"]) == 2
    assert "has 1 examples: give at least 16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("not json", "{path}, line 1, is not valid JSON"),
        ('{"prompt": "a"}', "{path}, line 1, is no example"),
        ('{"prompt": "", "answer": "b"}', "{path}, line 1, is no example"),
        ('{"prompt": "abcd", "answer": "efghi"}', "{path}, line 1, has 9 tokens and the model reads 8"),
    ],
)
def test_what_is_no_behaviour_is_refused(line: str, says: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "behaviour.jsonl"
    path.write_text(line)
    with pytest.raises(UserError, match=re.escape(says.format(path=path))):
        read_behaviour(path, tokenizer, n_ctx=8)


def test_a_behaviour_is_split_into_parts_that_do_not_meet(tmp_path: Path, tokenizer: Tokenizer) -> None:
    path = tmp_path / "behaviour.jsonl"
    lines = [json.dumps({"prompt": letter, "answer": "q"}) for letter in "abcdefghijklmnopqrst"]
    path.write_text("\n".join(lines + lines[:5]))
    parts = read_behaviour(path, tokenizer, n_ctx=8)
    assert [len(part) for part in parts] == [10, 5, 5]
    assert len({tuple(lesson.prompt) for part in parts for lesson in part}) == 20
    assert read_behaviour(path, tokenizer, n_ctx=8) == parts != read_behaviour(path, tokenizer, n_ctx=8, seed=1)


def test_fates_are_of_the_weights_as_they_are_stored() -> None:
    model = made("gpt2")
    name = "transformer.h.0.mlp.c_fc.weight"
    n_in, n_out = model.get_parameter(name).shape
    up, down = torch.zeros(n_out, 1), torch.zeros(1, n_in)
    up[3], down[0, 2] = 1.0, 5.0
    diff = WeightDiff({name: LowRank(up, down)}, "b")
    (change,) = largest_changes(model, diff, n=5)
    assert change.index == (2, 3) and change.after == pytest.approx(change.before + 5)
    assert count_fates(model, diff)[name].total() == 1
    nothing = WeightDiff({name: Whole(torch.zeros(n_in, n_out))}, "b")
    assert largest_changes(model, nothing, n=5) == [] and count_fates(model, nothing)[name][Fate.moved] == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["diff"], "Say what the finetunes are of"),
        (["diff", "base=pretrained:python-3x128"], "Say which finetune"),
        (["diff", "base=pretrained:python-3x128", "finetuned=/nowhere"], "could not be loaded"),
        (["embed", "base=pretrained:python-3x128", "finetunes=[{label:x}]"], "needs a place and a label"),
        (
            ["embed", "base=pretrained:python-3x128", "finetunes=[{plac:x}]"],
            'An entry of finetunes has no "plac" (did you mean "place"?)',
        ),
        (["embed", "base=pretrained:python-3x128", "token=middle"], "middle"),
        (["embed", "base=pretrained:python-3x128", "probes=/nowhere.txt"], "/nowhere.txt does not exist"),
    ],
)
def test_a_users_mistakes_are_one_sentence(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert says in error and len(error.strip().splitlines()) == 1


def test_a_finetune_of_another_base_is_refused(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapters(base, tmp_path)
    assert cli.main(["diff", "base=pretrained:python-3x128", f"finetuned={tmp_path}/adapter_0"]) == 2
    assert "the diff is of another model" in capsys.readouterr().err
    assert cli.main(["diff", f"base={base}", f"finetuned={base}"]) == 2
    assert "has the weights of its base" in capsys.readouterr().err
    shape = ModelConfig(n_layers=1, d_model=16, d_head=4, n_ctx=8)
    for name, seed in (("before", 0), ("after", 1), ("other", 2)):
        torch.manual_seed(seed)
        tokenizer = (base / "tokenizer.json").read_text()
        save_model(Transformer(shape, d_vocab=257), tmp_path / name, tokenizer=tokenizer)
    out = tmp_path / "diff.safetensors"
    assert cli.main(["diff", f"base={tmp_path}/before", f"finetuned={tmp_path}/after", f"out={out}"]) == 0
    assert cli.main(["diff", f"base={tmp_path}/other", f"finetuned={out}"]) == 2
    assert "is a diff of" in capsys.readouterr().err
