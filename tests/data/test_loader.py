"""Batches are the same after a resume and over any number of processes, and no token is a target twice an epoch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.data import Loader, Packed, validation_batches
from sparse_circuits.errors import UserError

PACKED = Packed(np.array_split(np.arange(1000, dtype=np.uint16), 7))  # each token is its own position


def loader(**differences: int) -> Loader:
    return Loader(PACKED, **({"batch_size": 6, "n_ctx": 10, "seed": 3} | differences))


def take(loader: Loader, n_batches: int) -> list[torch.Tensor]:
    return [loader.next_batch() for _ in range(n_batches)]


def equal(some: list[torch.Tensor], others: list[torch.Tensor]) -> bool:
    return all(torch.equal(left, right) for left, right in zip(some, others, strict=True))


def test_a_row_is_a_window_of_the_text() -> None:
    for batch in take(loader(), 40):
        assert batch.shape == (6, 11) and batch.dtype == torch.int64
        assert torch.equal(batch, batch[:, :1] + torch.arange(11))


def test_no_target_comes_twice_in_an_epoch() -> None:
    targets = torch.cat(take(loader(), 99 // 6))[:, 1:].flatten()
    assert len(targets.unique()) == len(targets) == 960


def test_epochs_differ_in_order_and_in_where_windows_begin() -> None:
    source = loader()
    first, second = (torch.cat(take(source, 99 // 6))[:, 0] for _ in range(2))
    assert source.state()["epoch"] == 1
    assert first[0] % 10 != second[0] % 10
    assert not torch.equal(first.argsort(), second.argsort())


def test_the_seed_decides() -> None:
    assert equal(take(loader(), 30), take(loader(), 30))
    assert not equal(take(loader(), 3), take(loader(seed=4), 3))


@given(st.integers(0, 40))
def test_a_resumed_loader_goes_on_with_the_same_batches(n_batches: int) -> None:
    whole, resumed = loader(), loader(seed=99)
    take(whole, n_batches)
    resumed.load_state(whole.state())
    assert equal(take(whole, 20), take(resumed, 20))


@pytest.mark.parametrize("world_size", [2, 3, 6])
def test_processes_together_see_the_batch_of_one(world_size: int) -> None:
    ranks = [loader(rank=rank, world_size=world_size) for rank in range(world_size)]
    for batch in take(loader(), 30):
        assert torch.equal(torch.cat([rank.next_batch() for rank in ranks]), batch)


def test_a_corpus_of_just_a_batch_is_enough() -> None:
    packed = Packed([np.arange(70, dtype=np.uint16)])
    assert len(take(Loader(packed, batch_size=6, n_ctx=10, seed=0), 20)) == 20
    with pytest.raises(UserError, match="70 training tokens is smaller than a batch of 7 x 10"):
        Loader(packed, batch_size=7, n_ctx=10, seed=0)


def test_processes_that_cannot_share_a_batch_are_refused() -> None:
    with pytest.raises(UserError, match="batch of 6 is no multiple of 4 processes"):
        loader(rank=0, world_size=4)


def test_a_position_beyond_the_corpus_is_refused() -> None:
    with pytest.raises(UserError, match="lies beyond this corpus"):
        loader().load_state({"seed": 0, "epoch": 0, "offset": 500})


def test_validation_goes_through_the_text_in_order_the_same_every_time() -> None:
    batches = list(validation_batches(PACKED, batch_size=9, n_ctx=10))
    assert len(batches) == 11
    assert torch.cat(batches)[:, 1:].flatten().tolist() == list(range(1, 991))
    assert equal(batches, list(validation_batches(PACKED, batch_size=9, n_ctx=10)))


def test_fewer_validation_batches_are_spread_over_the_text() -> None:
    starts = torch.cat(list(validation_batches(PACKED, batch_size=5, n_ctx=10, n_batches=2)))[:, 0]
    assert starts.tolist() == [0, 110, 220, 330, 440, 540, 650, 760, 870, 980]


def test_a_validation_split_smaller_than_a_batch_is_refused() -> None:
    with pytest.raises(UserError, match="validation split of 1000 tokens is smaller than a batch"):
        validation_batches(PACKED, batch_size=100, n_ctx=10)
