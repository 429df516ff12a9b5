"""A diff is what it changes: applied, scaled, composed and saved, for a model of ours and one of Hugging Face's."""

from pathlib import Path

import pytest
import torch
import transformers
from torch import nn

from sparse_circuits.diffs.apply import applied, applied_by_row
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole, diff_between
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer

D_VOCAB = 30


def ours() -> nn.Module:
    torch.manual_seed(0)
    model = Transformer(ModelConfig(n_layers=2, d_model=16, d_head=4, n_ctx=8), d_vocab=D_VOCAB)
    return model.double().eval().requires_grad_(False)


def llama() -> nn.Module:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = transformers.LlamaConfig(vocab_size=D_VOCAB, **shape, bos_token_id=None, eos_token_id=None)
    return transformers.LlamaForCausalLM(config).double().eval().requires_grad_(False)


@pytest.fixture(params=[ours, llama])
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
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and torch.rand((), generator=generator) < share:
            up = 0.3 * torch.randn(module.out_features, rank, generator=generator, dtype=torch.float64)
            down = 0.3 * torch.randn(rank, module.in_features, generator=generator, dtype=torch.float64)
            changes[f"{name}.weight"] = LowRank(up, down)
    return WeightDiff(changes, base="base", about={"seed": seed})


def merged(model: nn.Module, diff: WeightDiff, make: object) -> nn.Module:
    """Return the model with the diff multiplied out."""
    other = make()
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name in diff.changes:
                parameter += diff.changes[name].matrix()
    return other


@pytest.mark.parametrize("make", [ours, llama])
def test_a_model_with_a_diff_is_the_merged_model_and_afterwards_itself(make: object, tokens: torch.Tensor) -> None:
    model = make()
    diff = lora(model, rank=2, seed=1)
    plain = logits(model, tokens)
    expected = logits(merged(model, diff, make), tokens)
    with applied(model, diff):
        torch.testing.assert_close(logits(model, tokens), expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(logits(model, tokens), plain)
    assert not torch.allclose(expected, plain)


@pytest.mark.parametrize("make", [ours, llama])
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
    whole = WeightDiff({name: Whole(change.matrix()) for name, change in two.changes.items()}, base="base")
    for second in (two, whole):
        found = 2.0 * one - second
        for name in one.changes:
            expected = 2 * one.changes[name].matrix()
            if name in second.changes:
                expected = expected - second.changes[name].matrix()
            torch.testing.assert_close(found.changes[name].matrix(), expected)
    shared = next(iter(two.changes))
    assert (one + two).changes[shared].rank == 5
    assert isinstance((one + whole).changes[shared], Whole)
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
    whole = WeightDiff({name: Whole(change.matrix())}, base="base")
    with pytest.raises(UserError, match="without factors"), applied_by_row(model, [whole]):
        pass
    two = applied_by_row(model, [lora(model, rank=1, seed=1)] * 2)
    with pytest.raises(UserError, match="2 diffs were given for a batch of 3 rows"), two:
        logits(model, tokens)
    with pytest.raises(UserError, match="compose diffs of one model"):
        whole + WeightDiff({}, base="another")
