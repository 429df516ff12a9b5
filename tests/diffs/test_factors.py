"""Many factors side by side do to their rows what each does alone."""

import pytest
import torch
from diffs.models import bases, ours
from families import made

from sparse_circuits.diffs.bank import LoraBank
from sparse_circuits.diffs.factors import Factors, adding
from sparse_circuits.diffs.maps import block_maps
from sparse_circuits.errors import UserError
from sparse_circuits.model.dense import HuggingFace


def test_a_run_of_rows_has_its_own_factors() -> None:
    x = torch.randn(6, 3, 5)
    factors = Factors(torch.randn(2, 4, 3), torch.randn(2, 3, 5))
    expected = torch.cat([x[3 * n : 3 * n + 3] @ (factors.up[n] @ factors.down[n]).T for n in range(2)])
    torch.testing.assert_close(factors(x), expected)
    shared = Factors(factors.up[:1], factors.down[:1])
    torch.testing.assert_close(shared(x), x @ (factors.up[0] @ factors.down[0]).T)
    with pytest.raises(UserError, match="2 diffs were given for a batch of 5 rows"):
        factors(x[:5])


def test_of_a_model_that_sees_only_what_reads_is_changed() -> None:
    names = block_maps(HuggingFace(made("gemma3")))
    assert len(names) == 14 and all(name.startswith("model.language_model.layers.") for name in names)


@pytest.mark.parametrize("kind", ["ours", "llama", "gpt2"])
def test_the_maps_of_blocks_are_all_but_head_and_embedding(kind: str) -> None:
    model = bases()[kind]
    shapes = sorted((n_out, n_in) for _, n_out, n_in, _ in block_maps(model).values())
    expected = {
        "ours": [(48, 16), (16, 16), (64, 16), (16, 64)],
        "llama": [(16, 16)] * 2 + [(8, 16)] * 2 + [(32, 16)] * 2 + [(16, 32)],
        "gpt2": [(48, 16), (16, 16), (64, 16), (16, 64)],
    }[kind]
    assert shapes == sorted(2 * expected)


@pytest.mark.parametrize("kind", ["ours", "llama", "gpt2"])
def test_a_bank_is_its_diffs(kind: str) -> None:
    from sparse_circuits.diffs.apply import applied

    model = bases()[kind]
    bank = LoraBank(model, ranks=[1, 3], seeds=[5, 5]).double()
    with torch.no_grad():
        for down in bank.downs:
            down[0, :1].normal_()
            down[1].normal_()
    tokens = torch.randint(30, (4, 6))
    with adding(model, bank.factors()):
        together = model(tokens)
    for number, diff in enumerate(bank.diffs(base="b", about=[{}, {}])):
        assert {change.rank for change in diff.changes.values()} == {[1, 3][number]}
        with applied(model, diff):
            torch.testing.assert_close(together[2 * number : 2 * number + 2], model(tokens[2 * number : 2 * number + 2]))
        assert not torch.allclose(together[2 * number : 2 * number + 2], model(tokens[2 * number : 2 * number + 2]))


def test_equal_seeds_are_equal_factors_and_what_a_low_rank_lacks_is_zero() -> None:
    bank = LoraBank(ours(), ranks=[2, 2, 1, 4], seeds=[7, 7, 7, 8])
    for up, down in zip(bank.ups, bank.downs, strict=True):
        assert torch.equal(up[0], up[1]) and not torch.equal(up[0], up[3])
        assert up[2, :, :1].all() and not up[2, :, 1:].any() and not up[0, :, 2:].any() and up[3].all()
        assert not down.any()


@pytest.mark.parametrize(
    ("ranks", "seeds", "said"),
    [([], None, "no finetune"), ([0], None, "rank is 0"), ([1, 2], [3], "2 ranks and 1 seeds")],
)
def test_impossible_banks_are_refused(ranks: list[int], seeds: list[int] | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        LoraBank(ours(), ranks=ranks, seeds=seeds)
