"""Training on a fixed support: two kinds of step by hand, exact budgets, small moments, and resuming to the same bits."""

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sparse_circuits.errors import UserError
from sparse_circuits.kernels.magnitude_prune import reference
from sparse_circuits.kernels.magnitude_prune.reference import magnitude_mask
from sparse_circuits.kernels.sparse_linear import dispatch
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.model.store import read_tensors
from sparse_circuits.sparsity import Anneal, SparsityConfig, l0_counts
from sparse_circuits.training.config import OptimizerConfig, TrainConfig
from sparse_circuits.training.fixed_support import FixedSupportStep
from sparse_circuits.training.loop import Interrupted
from sparse_circuits.training.optimizer import gradient_rms
from sparse_circuits.training.pretrain import pretrain
from sparse_circuits.training.step import PretrainStep
from sparse_circuits.training.track import read_metrics

EVERY = 5


@pytest.fixture
def fixed(config: TrainConfig) -> TrainConfig:
    """Annealing ends with step 3 of 24; after that the support is chosen at steps 5, 10, 15 and 20."""
    return dataclasses.replace(config, sparsity=dataclasses.replace(config.sparsity, support_every=EVERY))


def small_step(*, n_steps: int = 40, **optimizer: object) -> FixedSupportStep:
    """A step on a small model, sparse from the beginning, so that step 1 chooses."""
    config = TrainConfig(
        model=ModelConfig(n_layers=1, d_model=16, d_head=8, n_ctx=16),
        sparsity=SparsityConfig(l0_fraction=0.3, floor=2, anneal=Anneal.none, support_every=EVERY),
        optimizer=OptimizerConfig(lr=1e-2, warmup=0.0, **optimizer),
        n_tokens=16 * 4 * n_steps,
        batch_size=4,
    )
    torch.manual_seed(0)
    return FixedSupportStep(Transformer(config.model, d_vocab=50), config)


def batches(n: int) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randint(50, (4, 17)) for _ in range(n)]


def take(step: FixedSupportStep, n: int, *, start: int = 0) -> list[dict]:
    return [step(batch, index=index) for index, batch in enumerate(batches(start + n)) if index >= start]


def copies(step: FixedSupportStep) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in step.model.named_parameters()}


def dense_gradients(step: FixedSupportStep, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the gradient of every entry at the weights as they are, and leave no trace."""
    step.ordinary.backward(batch)
    found = {name: p.grad for name, p in step.model.named_parameters()}
    step.ordinary.optimizer.zero_grad(set_to_none=True)
    return found


def test_a_fixed_step_is_that_of_adamw_on_the_nonzeros() -> None:
    step = small_step()
    take(step, 2)
    batch = batches(3)[2]
    before, gradients, support = copies(step), dense_gradients(step, batch), dict(step.support.index)
    state = {name: {k: v.clone() for k, v in step.optimizer.state[p].items()} for name, p in step.support.trained.items()}
    metrics = step(batch, index=2)
    known = [gradients[name].flatten()[support[name]] if name in support else gradients[name] for name in gradients]
    rms = gradient_rms(known)
    torch.testing.assert_close(metrics["gradient_rms"], rms)
    for (name, p), gradient in zip(step.model.named_parameters(), known, strict=True):
        values = before[name].flatten()[support[name]] if name in support else before[name]
        values = values.clone().requires_grad_()
        values.grad = gradient / (rms + 1e-5)
        decay = 0.1 if name.endswith("weight") else 0.0
        optimizer = torch.optim.AdamW([values], lr=metrics["lr"], betas=(0.9, 0.95), eps=0.1, weight_decay=decay)
        optimizer.state[values] = state[name]
        optimizer.step()
        expected = before[name].flatten().index_copy(0, support[name], values.detach()) if name in support else values
        torch.testing.assert_close(p, expected.view_as(p), msg=name)


def test_a_choosing_step_lets_every_entry_compete() -> None:
    step = small_step()
    take(step, EVERY - 1)
    batch = batches(EVERY)[EVERY - 1]
    gradients, old = dense_gradients(step, batch), dict(step.support.index)
    moments = {name: step.optimizer.state[step.support.trained[name]]["exp_avg"].clone() for name in old}
    metrics = step(batch, index=EVERY - 1)
    rms = gradient_rms(gradients.values())
    torch.testing.assert_close(metrics["gradient_rms"], rms)
    after, changed = dict(step.model.named_parameters()), 0
    for name, index in old.items():
        gradient = (gradients[name] / (rms + 1e-5)).flatten()
        candidates = torch.zeros_like(gradient, requires_grad=True)
        candidates.grad = gradient
        fresh = torch.optim.AdamW([candidates], lr=metrics["lr"], betas=(0.9, 0.95), eps=0.1)
        fresh.step()
        whole = fresh.state[candidates]["exp_avg"].index_copy(0, index, torch.lerp(moments[name], gradient[index], 0.1))
        inside = torch.zeros_like(gradient, dtype=torch.bool).index_fill(0, index, True)
        kept, new = after[name].detach().flatten(), step.support.index[name]
        assert torch.equal(kept.nonzero().squeeze(1), new)
        torch.testing.assert_close(kept[new], torch.where(inside, kept, candidates.detach())[new])
        if not step.ordinary.budgets[name].floor:  # what was left out is smaller than what was kept
            left_out = candidates.detach()[~inside & (kept == 0)].abs()
            assert not left_out.numel() or left_out.max() <= kept[new].abs().min() + 1e-9
        torch.testing.assert_close(step.optimizer.state[step.support.trained[name]]["exp_avg"], whole[new])
        changed += int((~inside[new]).sum())
    assert changed > 0


def test_the_first_choice_is_the_ordinary_step() -> None:
    step = small_step()
    twin = PretrainStep(Transformer(step.config.model, d_vocab=50), step.config)
    twin.model.load_state_dict(step.model.state_dict())
    batch = batches(1)[0]
    torch.testing.assert_close(step(batch, index=0), twin(batch, index=0))
    for (name, p), q in zip(step.model.named_parameters(), twin.model.parameters(), strict=True):
        assert torch.equal(p == 0, q == 0), name
        torch.testing.assert_close(p, q, msg=name)
        if name in step.support.index:
            kept = magnitude_mask(q, q.numel()).flatten()
            for key in ("exp_avg", "exp_avg_sq"):
                found = step.optimizer.state[step.support.trained[name]][key]
                torch.testing.assert_close(found, twin.optimizer.state[q][key].flatten()[kept])


def test_the_support_stays_between_choices_and_budgets_are_exact() -> None:
    step = small_step()
    seen = []
    for index, batch in enumerate(batches(17)):
        step(batch, index=index)
        counts = l0_counts(step.model)
        for name, budget in step.ordinary.budgets.items():
            assert counts[name] == budget.target if name.endswith("weight") else counts[name] <= budget.target, name
        seen.append(torch.cat([places for places in step.support.index.values()]))
    for index in range(1, len(seen)):
        assert torch.equal(seen[index - 1], seen[index]) == ((index + 1) % EVERY != 0), index


def test_moments_hold_one_number_per_nonzero() -> None:
    step = small_step()
    take(step, 2)
    n_trained = sum(
        step.ordinary.budgets[name].target if name in step.ordinary.budgets else p.numel()
        for name, p in step.model.named_parameters()
    )
    assert not step.ordinary.optimizer.state
    assert all(p.grad is None for p in step.model.parameters())
    for key in ("exp_avg", "exp_avg_sq"):
        assert sum(state[key].numel() for state in step.optimizer.state.values()) == n_trained


def test_the_sparse_product_trains_as_the_dense_one(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = dispatch.device_kind(torch.device("cpu"))
    losses, weights = [], []
    for crossing, n_sparse in ((0.0, 0), (1.0, 4)):
        monkeypatch.setattr(dispatch, "CROSSOVER", {(kind, "float32"): crossing})
        step = small_step()
        losses.append([float(metrics["loss"]) for metrics in take(step, 12)])
        weights.append(copies(step))
        assert len(step.support._products) == n_sparse
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], rtol=1e-3, atol=1e-4, msg=name)


def test_where_the_fused_adamw_ignores_its_scale_the_step_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, fused = [], torch._fused_adamw_
    for devices in ((), ("cpu",)):
        if devices:
            monkeypatch.setattr(torch, "_fused_adamw_", lambda *a, grad_scale, **more: fused(*a, grad_scale=None, **more))
        monkeypatch.setattr(reference, "WITHOUT_SCALE", devices)
        losses.append([float(metrics["loss"]) for metrics in take(small_step(), 12)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_accumulation_gives_the_same_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for crossing in (0.0, 1.0):
        monkeypatch.setattr(dispatch, "CROSSOVER", {(dispatch.device_kind(torch.device("cpu")), "float32"): crossing})
        whole, parts = small_step(), small_step()
        parts.ordinary.config = dataclasses.replace(parts.config, accumulation=4)
        for one, other in zip(take(whole, 3), take(parts, 3), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_run_keeps_its_budget_and_learns(fixed: TrainConfig, folder: Path) -> None:
    model, _ = pretrain(fixed, folder)
    targets = {name: budget.target for name, budget in FixedSupportStep(model, fixed).ordinary.budgets.items()}
    assert l0_counts(model) == targets
    losses = [line["loss"] for line in read_metrics(folder / "metrics.jsonl") if "loss" in line]
    assert losses[-1] < losses[0] - 0.5


def test_choosing_at_every_step_is_the_ordinary_run(config: TrainConfig, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FixedSupportStep, "__init__", None)  # must not be used
    assert config.sparsity.support_every == 1
    pretrain(config, folder)


def terminated_at(number: int) -> Callable[..., dict]:
    """A step that receives SIGTERM while it is under way."""
    ordinary = FixedSupportStep.__call__

    def step(self: FixedSupportStep, batch: torch.Tensor, *, index: int) -> dict:
        if index == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return ordinary(self, batch, index=index)

    return step


@pytest.mark.parametrize("crossing", [0.0, 1.0])
def test_interrupted_anywhere_it_resumes_to_the_same_bits(
    fixed: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crossing: float
) -> None:
    monkeypatch.setattr(dispatch, "CROSSOVER", {(dispatch.device_kind(torch.device("cpu")), "float32"): crossing})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    pretrain(fixed, whole)
    for number in (1, 2, 6, 9, 13):  # annealing, the first choice, a fixed step, a choice, a fixed step
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FixedSupportStep, "__call__", terminated_at(number))
            with pytest.raises(Interrupted):
                pretrain(fixed, broken, resume=True)
    pretrain(fixed, broken, resume=True)
    expected, found = (read_tensors(run / "model" / "model.safetensors", kind="model").tensors for run in (whole, broken))
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert read_metrics(whole / "metrics.jsonl") == read_metrics(broken / "metrics.jsonl")


@pytest.mark.parametrize("every", [0, -3])
def test_a_support_that_is_never_chosen_is_refused(every: int) -> None:
    with pytest.raises(UserError, match=f"support_every is {every}: give 1"):
        SparsityConfig(support_every=every)
