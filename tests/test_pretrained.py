"""Models that come with the package: the same model back, its means, and its size."""

from pathlib import Path

import pytest
import torch

from sparse_circuits.circuits import measure_means
from sparse_circuits.circuits.means import check_means
from sparse_circuits.data.tokenizer import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.model import ModelConfig, Transformer
from sparse_circuits.pretrained import (
    FOLDER,
    Pretrained,
    halve_bigram_,
    load_pretrained,
    pretrained_names,
    read_pretrained,
    write_pretrained,
)
from sparse_circuits.tasks import TASKS, Split, encode_pairs, evaluate


class OneBatch:
    def next_batch(self) -> torch.Tensor:
        return torch.arange(36).view(4, 9)


@pytest.fixture
def pretrained() -> Pretrained:
    tokenizer = Tokenizer.train(["a b c\n" * 50], d_vocab=260)
    model = Transformer(ModelConfig(n_layers=1, d_model=16, n_ctx=8), d_vocab=tokenizer.d_vocab).requires_grad_(False)
    halve_bigram_(model)
    return Pretrained(model, tokenizer, measure_means(model, OneBatch(), n_tokens=32), {"validation_loss": 3.0})


def test_comes_back_as_it_was(pretrained: Pretrained, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    write_pretrained(pretrained, path)
    back = read_pretrained(path)
    tokens = torch.randint(pretrained.model.d_vocab, (2, 7))
    assert torch.equal(back.model(tokens), pretrained.model(tokens))
    check_means(back.means, back.model)
    assert torch.equal(back.means.sample, pretrained.means.sample)
    assert back.about == pretrained.about and back.tokenizer.to_json() == pretrained.tokenizer.to_json()


def test_refuses_a_table_or_means_that_are_not_its_own(pretrained: Pretrained, tmp_path: Path) -> None:
    pretrained.model.bigram[0, 0] = 1 / 3
    with pytest.raises(UserError, match="halve_bigram_"):
        write_pretrained(pretrained, tmp_path / "a.safetensors")
    pretrained.model.bigram[0, 0] = 0.5
    with pytest.raises(UserError, match="another model"):
        write_pretrained(pretrained, tmp_path / "a.safetensors")


def test_what_ships_is_small_and_knows_its_tasks() -> None:
    names = pretrained_names()
    assert names
    for name in names:
        assert (FOLDER / f"{name}.safetensors").stat().st_size <= 12e6
        shipped = load_pretrained(name)
        check_means(shipped.means, shipped.model)
        for task in ("single_double_quote", "while_return_true"):
            batch = encode_pairs(TASKS[task], shipped.tokenizer, split=Split.held_out, n_pairs=64, seed=0, max_tokens=128)
            assert evaluate(shipped.model, batch).known


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match="There is no pretrained model"):
        load_pretrained("nothing_like_it")
