"""The whole run: it resumes to the same bits, keeps its budget at every step, and refuses what is wrong."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sparse_circuits.data import SourceConfig, SourceKind, Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.kernels.backend import Backend
from sparse_circuits.model import Transformer
from sparse_circuits.model.store import read_tensors
from sparse_circuits.run import alone_in
from sparse_circuits.sparsity import SparsityConfig, density, l0_counts, sparse_budgets
from sparse_circuits.training.config import GradientRule, OptimizerConfig, TrainConfig
from sparse_circuits.training.export import load_trained
from sparse_circuits.training.loop import Interrupted
from sparse_circuits.training.optimizer import gradient_divisor, gradient_rms
from sparse_circuits.training.pretrain import pretrain
from sparse_circuits.training.schedule import learning_rate
from sparse_circuits.training.step import PretrainStep
from sparse_circuits.training.track import read_metrics


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_tensors(folder / "model" / "model.safetensors", kind="model").tensors


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_explains_itself_and_keeps_its_budget(config: TrainConfig, folder: Path) -> None:
    model, tokenizer = pretrain(config, folder)
    assert l0_counts(model) == {name: b.target for name, b in sparse_budgets(model, config.sparsity).items()}
    assert {"run.json", "data.json", "metrics.jsonl", "model.json", "curves.png"} <= {p.name for p in folder.iterdir()}
    lines = read_metrics(folder / "metrics.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert len(losses) == config.n_steps
    assert losses[-1] < losses[0] - 0.5
    assert [line["step"] for line in lines if "validation_loss" in line] == [12, 24]
    loaded = load_trained(folder)
    assert loaded.tokenizer.hash == tokenizer.hash
    tokens = torch.randint(300, (2, 16))
    assert torch.equal(loaded.model(tokens), model(tokens))


def test_the_budget_is_exact_after_every_step(config: TrainConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    n_checked = 0
    take = PretrainStep.__call__

    def counting(self: PretrainStep, batch: torch.Tensor, *, index: int) -> dict:
        nonlocal n_checked
        metrics = take(self, batch, index=index)
        remaining = density((index + 1) / config.n_steps, config.sparsity, target_share=self.target / self.size)
        counts = l0_counts(self.model)
        for name, budget in self.budgets.items():
            if name.endswith("weight"):
                assert counts[name] == budget.at(remaining), name
            else:  # a bias starts at zero and may stay below its budget
                assert counts[name] <= budget.at(remaining), name
        n_checked += 1
        return metrics

    monkeypatch.setattr(PretrainStep, "__call__", counting)
    pretrain(config, folder)
    assert n_checked == config.n_steps


def terminated_at(number: int) -> Callable[..., dict]:
    """A step that receives SIGTERM while it is under way."""
    take = PretrainStep.__call__

    def step(self: PretrainStep, batch: torch.Tensor, *, index: int) -> dict:
        if index == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(self, batch, index=index)

    return step


def test_interrupted_anywhere_it_resumes_to_the_same_bits(config: TrainConfig, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    pretrain(config, whole)
    for number in (3, 11, 18):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(PretrainStep, "__call__", terminated_at(number))
            with pytest.raises(Interrupted, match=f"after step {number + 1} of 24; go on with resume=true"):
                pretrain(config, broken, resume=True)
    pretrain(config, broken, resume=True)
    assert same(weights(whole), weights(broken))
    assert read_metrics(whole / "metrics.jsonl") == read_metrics(broken / "metrics.jsonl")


def test_killed_before_its_first_checkpoint_it_leaves_no_line_twice(config: TrainConfig, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    pretrain(config, whole)
    take = PretrainStep.__call__

    def killed(self: PretrainStep, batch: torch.Tensor, *, index: int) -> dict:
        if index == 3:
            raise SystemExit
        return take(self, batch, index=index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainStep, "__call__", killed)
        with pytest.raises(SystemExit):
            pretrain(config, broken)
    metrics = broken / "metrics.jsonl"
    assert len(read_metrics(metrics)) == 3
    metrics.write_text(metrics.read_text()[:-9])  # the last line was cut short
    pretrain(config, broken, resume=True)
    assert read_metrics(whole / "metrics.jsonl") == read_metrics(metrics)


def test_a_half_written_checkpoint_is_never_seen(config: TrainConfig, folder: Path) -> None:
    pretrain(config, folder)
    expected = weights(folder)
    (folder / "checkpoints" / ".step_00000099.safetensors.1.partial").write_bytes(b"half")
    pretrain(config, folder, resume=True)
    assert same(weights(folder), expected)


def test_accumulation_gives_the_same_gradient(config: TrainConfig, tmp_path: Path) -> None:
    pretrain(config, tmp_path / "one")
    pretrain(dataclasses.replace(config, accumulation=4), tmp_path / "four")
    first, second = (read_metrics(tmp_path / name / "metrics.jsonl")[0] for name in ("one", "four"))
    assert first["loss"] == pytest.approx(second["loss"], rel=1e-5)
    assert first["gradient_rms"] == pytest.approx(second["gradient_rms"], rel=1e-4)


def test_an_infinite_loss_stops_with_names_and_checkpoint(config: TrainConfig, folder: Path) -> None:
    take = PretrainStep.__call__

    def poisoned(self: PretrainStep, batch: torch.Tensor, *, index: int) -> dict:
        if index == 7:
            with torch.no_grad():
                self.model.norm.gain[0] = float("inf")
        return take(self, batch, index=index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PretrainStep, "__call__", poisoned)
        with pytest.raises(UserError, match=r"step 8; largest gradients: .*step_00000005\.safetensors"):
            pretrain(config, folder)


def test_an_existing_run_is_not_overwritten(config: TrainConfig, folder: Path) -> None:
    pretrain(config, folder)
    with pytest.raises(UserError, match="resume=true"):
        pretrain(config, folder)
    with pytest.raises(UserError, match=r"other settings \(seed\)"):
        pretrain(dataclasses.replace(config, seed=1), folder, resume=True)


def test_a_folder_in_which_another_run_is_at_work_is_refused(config: TrainConfig, folder: Path) -> None:
    with alone_in(folder), pytest.raises(UserError, match="Another run is at work"):
        pretrain(config, folder)
    assert not (folder / "run.json").exists()


def test_a_run_is_not_resumed_on_another_corpus(config: TrainConfig, folder: Path, tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.py").write_text(f"value_{number} = {number}\n" * 20)
    source = SourceConfig(SourceKind.files, paths=[str(tmp_path / "*.py")])
    config = dataclasses.replace(config, data=dataclasses.replace(config.data, sources=[source], folder=tmp_path / "cache"))
    pretrain(config, folder)
    before = (folder / "data.json").read_bytes(), load_trained(folder).tokenizer.hash
    (tmp_path / "0.py").write_text("another = 1\n" * 20)
    with pytest.raises(UserError, match=r"another corpus than .* train into another run folder"):
        pretrain(config, folder, resume=True)
    assert before == ((folder / "data.json").read_bytes(), load_trained(folder).tokenizer.hash)


def test_a_damaged_checkpoint_is_refused(config: TrainConfig, folder: Path) -> None:
    pretrain(config, folder)
    newest = sorted((folder / "checkpoints").iterdir())[-1]
    content = bytearray(newest.read_bytes())
    content[-3] ^= 1
    newest.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        pretrain(config, folder, resume=True)
    newest.write_bytes(content[:-100])
    with pytest.raises(UserError, match="truncated"):
        pretrain(config, folder, resume=True)


def test_a_budget_below_the_floor_is_refused_before_the_data_are_read(config: TrainConfig, folder: Path) -> None:
    sparse = dataclasses.replace(config, sparsity=SparsityConfig(l0_fraction=0.01))
    missing = dataclasses.replace(sparse, data=dataclasses.replace(config.data, folder=folder / "never"))
    with pytest.raises(UserError, match="raise l0_fraction"):
        pretrain(missing, folder)
    assert not folder.exists()


def test_what_cannot_be_evaluated_is_refused_before_the_folder_holds_a_run(config: TrainConfig, folder: Path) -> None:
    def refuse(model: Transformer, tokenizer: Tokenizer) -> Callable[[], dict]:
        raise UserError("no task fits")

    with pytest.raises(UserError, match="no task fits"):
        pretrain(config, folder, evaluators=[refuse])
    large = dataclasses.replace(config, batch_size=512, n_tokens=512 * 16)  # for the validation split
    with pytest.raises(UserError, match="The validation split of"):
        pretrain(large, folder)
    pretrain(config, folder)


def test_run_json_holds_the_resolved_config(config: TrainConfig, folder: Path) -> None:
    pretrain(config, folder)
    said = json.loads((folder / "run.json").read_text())
    assert said["config"]["sparsity"]["l0_fraction"] == 0.3
    assert said["versions"]["torch"] == torch.__version__


def test_the_kernels_are_chosen_once_and_written_down(
    config: TrainConfig, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretrain(config, folder)
    assert json.loads((folder / "run.json").read_text())["machine"] == {"device": "cpu", "kernels": "cpu"}
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UserError, match="needs a CUDA or ROCm device"):
        pretrain(dataclasses.replace(config, backend=Backend.triton), folder.with_name("other"))
    assert not folder.with_name("other").exists()


def test_sharkfin_by_hand() -> None:
    config = OptimizerConfig(lr=1.0, warmup=0.1)
    assert learning_rate(0.05, config) == pytest.approx(0.5)
    assert learning_rate(0.55, config) == pytest.approx(0.5)
    assert learning_rate(0.55, config, l0_ratio=0.25) == pytest.approx(0.25)
    assert learning_rate(0.55, dataclasses.replace(config, l0_factor=False), l0_ratio=0.25) == pytest.approx(0.5)
    assert learning_rate(1.0, config) == 0


def test_gradient_rms_and_its_two_rules() -> None:
    gradients = [torch.full((2, 3), 3.0), torch.zeros(3)]
    rms = gradient_rms(gradients)
    assert rms.item() == pytest.approx((54 / 9) ** 0.5)
    assert gradient_divisor(rms, GradientRule.clip).item() == pytest.approx(rms.item())
    assert gradient_divisor(rms / 100, GradientRule.clip).item() == 1
    assert gradient_divisor(rms, GradientRule.divide).item() == pytest.approx(rms.item(), rel=1e-4)
