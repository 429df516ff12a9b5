"""Bridge training through the one loop: resumed to the same bits, refused before any work, with either kind of dense model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import transformers

from sparse_circuits.bridges import BridgeConfig
from sparse_circuits.bridges.load import load_bridged
from sparse_circuits.bridges.train import train_bridge
from sparse_circuits.data import DataConfig, SourceConfig, SourceKind, Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer, save_model
from sparse_circuits.run import Precision
from sparse_circuits.sparsity import SparsityConfig
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.export import Trained
from sparse_circuits.training.loop import Interrupted

TEXT = [f"def function_{number}(value):\n    return value + {number}\n" * 8 for number in range(80)]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(TEXT, d_vocab=280)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    folder = tmp_path_factory.mktemp("corpus")
    for number, text in enumerate(TEXT):
        (folder / f"{number}.py").write_text(text)
    source = SourceConfig(SourceKind.files, paths=[str(folder / "*.py")])
    return TrainConfig(
        model=ModelConfig(n_layers=1, d_model=16, d_head=8, n_ctx=16),
        data=DataConfig(sources=[source], validation_fraction=0.2, folder=folder / "cache"),
        sparsity=SparsityConfig(l0_fraction=0.3),
        n_tokens=16 * 8 * 12,
        batch_size=8,
        evaluate_every=0,
        evaluation_batches=2,
        checkpoint_every=5,
        log_every=1,
        precision=Precision.float32,
    )


@pytest.fixture(scope="module", params=["ours", "gpt2"])
def dense(request: pytest.FixtureRequest, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("dense")
    if request.param == "ours":
        model = Transformer(ModelConfig(n_layers=1, d_model=8, d_head=8, n_ctx=16, abs_topk=1.0), d_vocab=tokenizer.d_vocab)
        save_model(model, folder / "model", tokenizer=tokenizer.to_json())
    else:
        shape = {"n_positions": 20, "n_embd": 8, "n_layer": 1, "n_head": 2}
        made = transformers.GPT2Config(vocab_size=tokenizer.d_vocab + 3, **shape)
        transformers.GPT2LMHeadModel(made).save_pretrained(folder)
        tokenizer.save(folder / "tokenizer.json")
    return str(folder)


def test_a_run_leaves_models_bridge_and_scores(config: TrainConfig, dense: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    weights = BridgeConfig(kl_to_sparse=0.0, kl_to_dense=0.0)  # so that errors fall within a few steps
    trained, scores = train_bridge(replace(config, n_tokens=16 * 8 * 40), run, dense=dense, bridge=weights)
    loaded = load_bridged(run)
    for name, value in trained.bridge.state_dict().items():
        assert torch.equal(value, loaded.bridge.state_dict()[name]), name
    tokens = torch.randint(200, (2, 9))
    torch.testing.assert_close(trained.sparse(tokens), loaded.sparse(tokens))
    torch.testing.assert_close(trained.dense(tokens), loaded.dense(tokens))
    assert [place.sparse for place in scores.places] == ["0.resid_in", "0.resid_mid", "final_resid"]
    assert json.loads((run / "bridge.json").read_text())["bigram_loss"] == pytest.approx(scores.bigram_loss)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    errors = [line["bridge/nmse"] for line in lines if "bridge/nmse" in line]
    assert 1.8 < errors[0] < 2.2  # two maps at every place, which say next to nothing to begin with
    assert errors[-1] < errors[0] - 0.03
    sizes = loaded.bridge.sizes
    assert (sizes > 0).all() and not torch.allclose(sizes[0], sizes[1])


def test_a_killed_run_ends_with_the_same_bits(
    config: TrainConfig, dense: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparse_circuits.bridges.losses import BridgeLoss

    settings = {"dense": dense, "bridge": BridgeConfig(n_places=1)}
    whole, _ = train_bridge(config, tmp_path / "whole", **settings)
    forward, calls = BridgeLoss.forward, []

    def dies(self: BridgeLoss, batch: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 8:
            raise Interrupted("killed")
        return forward(self, batch)

    monkeypatch.setattr(BridgeLoss, "forward", dies)
    with pytest.raises(Interrupted):
        train_bridge(config, tmp_path / "killed", **settings)
    monkeypatch.setattr(BridgeLoss, "forward", forward)
    resumed, _ = train_bridge(config, tmp_path / "killed", **settings, resume=True)
    for part in ("sparse", "bridge"):
        other = getattr(resumed, part).state_dict()
        for name, value in getattr(whole, part).state_dict().items():
            assert torch.equal(value, other[name]), (part, name)


def test_a_trained_sparse_model_goes_on_sparse(config: TrainConfig, dense: str, tokenizer: Tokenizer, tmp_path: Path) -> None:
    started, _ = train_bridge(config, tmp_path / "first", dense=dense, bridge=BridgeConfig())
    one = replace(config, n_tokens=16 * 8, optimizer=replace(config.optimizer, lr=1e-9, warmup=0.0))
    went_on, _ = train_bridge(
        one, tmp_path / "second", dense=dense, bridge=BridgeConfig(), start=Trained(started.sparse, started.tokenizer)
    )
    for (name, before), after in zip(started.sparse.named_parameters(), went_on.sparse.parameters(), strict=True):
        torch.testing.assert_close(before, after, rtol=0, atol=1e-6, msg=name)


def test_a_run_is_resumed_with_its_own_bridge_only(
    config: TrainConfig, dense: str, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"dense": dense, "bridge": BridgeConfig(n_places=1)}
    trained, _ = train_bridge(config, tmp_path / "run", **settings)
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert (recorded["dense"], recorded["bridge"]["n_places"], recorded["checkpoint"]) == (dense, 1, None)
    monkeypatch.chdir(Path(dense).parent)
    for changed, says in (
        ({"dense": Path(dense).name}, "dense"),
        ({"bridge": BridgeConfig(n_places=1, nmse=2.0)}, "bridge"),
        ({"start": Trained(trained.sparse, tokenizer)}, "checkpoint"),
    ):
        with pytest.raises(UserError, match=rf"other settings \(.*\b{says}\b"):
            train_bridge(config, tmp_path / "run", **{**settings, **changed}, resume=True)


def test_what_cannot_be_joined_is_refused_before_any_work(
    config: TrainConfig, dense: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    other = Tokenizer.train(["x = 1\n" * 50], d_vocab=257)
    other.save(tmp_path / "tokenizer.json")
    model = Transformer(config.model, d_vocab=257)
    for changed, more, says in (
        (replace(config, model=replace(config.model, n_layers=2)), {}, "sparse model has 2 layers and the dense one 1"),
        (replace(config, model=replace(config.model, n_ctx=32), n_tokens=10_000), {}, "reads 32 tokens and the dense one"),
        (replace(config, data=replace(config.data, tokenizer=tmp_path / "tokenizer.json")), {}, "is not the dense one's"),
        (config, {"start": Trained(model, other)}, "is not the dense one's"),
        (config, {"start": Trained(model, tokenizer)}, r"nonzeros, and the budget is .*: raise l0_fraction to 0\.\d+"),
        (config, {"dense": str(tmp_path)}, "could not be loaded"),
        (replace(config, sparsity=SparsityConfig(support_every=4)), {}, "support_every is 4, .* leave it at 1"),
    ):
        with pytest.raises(UserError, match=says):
            train_bridge(changed, tmp_path / "run", **{"dense": dense, "bridge": BridgeConfig(), **more})
    assert not (tmp_path / "run" / "run.json").exists()
    (tmp_path / "other").mkdir()
    other.save(tmp_path / "other" / "tokenizer.json")
    with pytest.raises(UserError, match="is another dense model's"):
        train_bridge(config, tmp_path / "other", dense=dense, bridge=BridgeConfig())


def test_a_bridge_of_another_model_is_refused(config: TrainConfig, dense: str, tmp_path: Path) -> None:
    trained, _ = train_bridge(config, tmp_path / "run", dense=dense, bridge=BridgeConfig())
    trained.sparse.norm.gain.data.mul_(2)
    save_model(trained.sparse, tmp_path / "run" / "model", tokenizer=trained.tokenizer.to_json())
    with pytest.raises(UserError, match="belongs to another sparse model"):
        load_bridged(tmp_path / "run")
