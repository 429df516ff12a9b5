"""A diff is what it changes: applied, scaled, composed and saved, for a model of ours and one of Hugging Face's."""

from pathlib import Path

import pytest
import torch
from diffs.models import D_VOCAB, gpt2, llama, ours
from torch import nn

from sparse_circuits.diffs.apply import applied, applied_by_row
from sparse_circuits.diffs.maps import linear_map
from sparse_circuits.diffs.support import changed
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole, diff_between
from sparse_circuits.errors import UserError


@pytest.fixture(params=[ours, llama, gpt2])
def model(request: pytest.FixtureRequest) -> nn.Module:
    return request.param()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(D_VOCAB, (3, 8))


def logits(model: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    found = model(tokens)
    return getattr(found, "logits", found)


def lora(model: nn.Module, *, rank: int, seed: int, share: float = 1.0) -> WeightDiff:
    """A diff of every linear map, or of some."""
    generator = torch.Generator().manual_seed(seed)
    changes = {}
    own = dict(model.named_parameters())  # a head that is the embedding is no map of its own
    for name, module in model.named_modules():
        is_map = type(module).__name__ in ("Linear", "Conv1D") and f"{name}.weight" in own
        if is_map and torch.rand((), generator=generator) < share:
            _, n_out, n_in, _ = linear_map(model, f"{name}.weight")
            up = 0.3 * torch.randn(n_out, rank, generator=generator, dtype=torch.float64)
            down = 0.3 * torch.randn(rank, n_in, generator=generator, dtype=torch.float64)
            changes[f"{name}.weight"] = LowRank(up, down)
    return WeightDiff(changes, base="base", about={"seed": seed})


def merged(model: nn.Module, diff: WeightDiff, make: object) -> nn.Module:
    """Return the model with the diff multiplied out."""
    other = make()
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name in diff.changes:
                delta = diff.changes[name].matrix()
                is_lora = isinstance(diff.changes[name], LowRank)
                parameter += delta.T if is_lora and linear_map(other, name).is_transposed else delta
    return other


@pytest.mark.parametrize("make", [ours, llama, gpt2])
def test_a_model_with_a_diff_is_the_merged_model_and_afterwards_itself(make: object, tokens: torch.Tensor) -> None:
    model = make()
    diff = lora(model, rank=2, seed=1)
    plain = logits(model, tokens)
    expected = logits(merged(model, diff, make), tokens)
    with applied(model, diff):
        torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(logits(model, tokens), plain)
    assert not torch.allclose(expected, plain)


@pytest.mark.parametrize("make", [ours, llama, gpt2])
def test_a_full_finetune_in_memory_becomes_a_diff(make: object, tokens: torch.Tensor) -> None:
    model, finetuned = make(), make()
    with torch.no_grad():
        for number, parameter in enumerate(finetuned.parameters()):
            if number % 3:
                parameter += 0.1 * torch.randn_like(parameter)
    diff = diff_between(model, finetuned, of="base", about={"topic": "owls"})
    n_parameters = len(list(model.parameters()))
    assert len(diff.changes) == n_parameters - len(range(0, n_parameters, 3)) and diff.about == {"topic": "owls"}
    plain = logits(model, tokens)
    with applied(model, diff):
        torch.testing.assert_close(logits(model, tokens), logits(finetuned, tokens))
    assert torch.equal(logits(model, tokens), plain)


def test_scaling_composing_and_subtracting_are_those_of_matrices(model: nn.Module) -> None:
    one, two = lora(model, rank=2, seed=1), lora(model, rank=3, seed=2, share=0.5)
    deltas = [changed(model, diff) for diff in (one, two)]
    wholes = [WeightDiff({name: Whole(delta) for name, delta in own.items()}, base="base") for own in deltas]
    for first, second in ((one, two), wholes):
        found = 2.0 * first - second
        for name in first.changes:
            expected = 2 * first.changes[name].matrix()
            if name in second.changes:
                expected = expected - second.changes[name].matrix()
            torch.testing.assert_close(found.changes[name].matrix(), expected)
    shared = next(iter(two.changes))
    assert (one + two).changes[shared].rank == 5 and (one + two).changes[shared].shape == one.changes[shared].shape
    with pytest.raises(UserError, match=f"changes {shared} by factors, another without"):
        one + wholes[1]
    nothing = one - one
    assert max(nothing.norms().values()) < 1e-12


def test_norms_come_from_the_factors(model: nn.Module) -> None:
    diff = lora(model, rank=3, seed=1)
    for name, norm in diff.norms().items():
        assert norm == pytest.approx(diff.changes[name].matrix().norm().item())
    total = torch.cat([change.matrix().flatten() for change in diff.changes.values()]).norm().item()
    assert diff.norm() == pytest.approx(total)


def test_every_row_has_its_own_diff(model: nn.Module, tokens: torch.Tensor) -> None:
    diffs = [lora(model, rank=1, seed=1), lora(model, rank=3, seed=2, share=0.5), lora(model, rank=2, seed=3)]
    with applied_by_row(model, diffs):
        together = logits(model, tokens)
    for row, diff in enumerate(diffs):
        with applied(model, diff):
            torch.testing.assert_close(together[row], logits(model, tokens[row : row + 1])[0], rtol=1e-9, atol=1e-9)


def test_gradients_reach_every_rows_factors(model: nn.Module, tokens: torch.Tensor) -> None:
    diffs = [lora(model, rank=1, seed=seed) for seed in range(3)]
    for diff in diffs:
        for change in diff.changes.values():
            change.up.requires_grad_()
    with applied_by_row(model, diffs):
        logits(model, tokens)[1].square().sum().backward()
    assert all(change.up.grad.abs().sum() > 0 for change in diffs[1].changes.values())
    assert all(change.up.grad is None or change.up.grad.abs().sum() == 0 for change in diffs[0].changes.values())


def test_a_saved_diff_is_the_same(model: nn.Module, tmp_path: Path) -> None:
    diff = lora(model, rank=2, seed=1) + WeightDiff({"bias": Whole(torch.randn(3))}, base="base")
    diff.save(tmp_path / "diff.safetensors")
    loaded = WeightDiff.load(tmp_path / "diff.safetensors")
    assert (loaded.base, loaded.about) == (diff.base, diff.about)
    for name, change in diff.changes.items():
        assert type(loaded.changes[name]) is type(change)
        assert torch.equal(loaded.changes[name].matrix(), change.matrix())


def test_diffs_that_do_not_fit_are_refused(model: nn.Module, tokens: torch.Tensor) -> None:
    name, change = next(iter(lora(model, rank=2, seed=1).changes.items()))
    odd = WeightDiff({name.replace("weight", "weigth"): change}, base="base")
    with pytest.raises(UserError, match=r'no parameter ".*" \(did you mean'), applied(model, odd):
        pass
    wide = WeightDiff({name: LowRank(change.up, change.down[:, 1:])}, base="base")
    with pytest.raises(UserError, match="the diff is of another model"), applied(model, wide):
        pass
    whole = WeightDiff({name: Whole(model.get_parameter(name).clone())}, base="base")
    with pytest.raises(UserError, match="without factors"), applied_by_row(model, [whole, whole]):
        pass
    two = applied_by_row(model, [lora(model, rank=1, seed=1)] * 2)
    with pytest.raises(UserError, match="2 diffs were given for a batch of 3 rows"), two:
        logits(model, tokens)
    with pytest.raises(UserError, match="compose diffs of one model"):
        whole + WeightDiff({}, base="another")
