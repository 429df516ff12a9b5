"""Packed tokens to batches: shuffled windows whose position is three numbers.

Each epoch cuts the tokens into windows of n_ctx + 1 that overlap by one, so that no token is a target twice. Where the
first window starts, and the order of the windows, are drawn from (seed, epoch).
"""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from sparse_circuits.data.pack import Packed
from sparse_circuits.errors import UserError


class Loader:
    """Batches without end; several processes each get their rows of the same batch."""

    def __init__(self, packed: Packed, *, batch_size: int, n_ctx: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        """Start at the first batch of epoch 0.

        Args:
            batch_size: sequences in a batch, all processes together.
            n_ctx: input tokens in a sequence; a row has one more, for the last target.
            rank, world_size: which of how many equal blocks of rows is ours.

        Raises:
            UserError: the corpus is smaller than a batch, or the processes cannot share one equally.
        """
        if batch_size % world_size:
            raise UserError(f"A batch of {batch_size} is no multiple of {world_size} processes: change batch_size.")
        self.packed, self.batch_size, self.n_ctx = packed, batch_size, n_ctx
        n_rows = batch_size // world_size
        self._rows = slice(rank * n_rows, (rank + 1) * n_rows)
        self._n_windows = (len(packed) - n_ctx) // n_ctx  # so many fit wherever the first one starts
        if self._n_windows < batch_size:
            raise UserError(
                f"The corpus of {len(packed)} training tokens is smaller than a batch of {batch_size} x {n_ctx}: "
                "lower batch_size or n_ctx, or give more text."
            )
        self._start_epoch(seed, 0)

    def next_batch(self) -> Int[Tensor, "batch pos_plus_one"]:
        """Return our rows of the next batch; an epoch's last windows, too few for a batch, are left out."""
        if self._offset + self.batch_size > self._n_windows:
            self._start_epoch(self._seed, self._epoch + 1)
        batch = self._starts[self._offset : self._offset + self.batch_size]
        self._offset += self.batch_size
        return read_windows(self.packed, batch[self._rows], n_ctx=self.n_ctx)

    def state(self) -> dict[str, int]:
        """Return the position: what a checkpoint needs to go on with the same batches."""
        return {"seed": self._seed, "epoch": self._epoch, "offset": self._offset}

    def load_state(self, state: Mapping[str, int]) -> None:
        """Go to a position that `state` returned.

        Raises:
            UserError: the position lies beyond this corpus.
        """
        if not 0 <= state["offset"] <= self._n_windows:
            raise UserError(
                f"The saved position, window {state['offset']} of an epoch, lies beyond this corpus of "
                f"{self._n_windows}: resume with the corpus and n_ctx of the checkpoint."
            )
        self._start_epoch(state["seed"], state["epoch"])
        self._offset = state["offset"]

    def _start_epoch(self, seed: int, epoch: int) -> None:
        self._seed, self._epoch, self._offset = seed, epoch, 0
        random = np.random.default_rng([seed, epoch])
        first = random.integers(self.n_ctx)
        self._starts = first + random.permutation(self._n_windows) * self.n_ctx


def validation_batches(
    packed: Packed, *, batch_size: int, n_ctx: int, n_batches: int | None = None
) -> Iterator[Int[Tensor, "batch pos_plus_one"]]:
    """Yield the same batches at every call, in the order of the text.

    Args:
        n_batches: how many, their windows spread evenly over the text; without it, all full ones.

    Raises:
        UserError: the text is smaller than a batch.
    """
    n_windows = (len(packed) - 1) // n_ctx
    n_full = n_windows // batch_size
    if n_full == 0:
        raise UserError(
            f"The validation split of {len(packed)} tokens is smaller than a batch of {batch_size} x {n_ctx}: "
            "raise validation_fraction, or lower the batch size or n_ctx."
        )
    n_batches = min(n_full, n_batches or n_full)
    windows = np.linspace(0, n_windows - 1, n_batches * batch_size).round().astype(np.int64)
    return (read_windows(packed, batch * n_ctx, n_ctx=n_ctx) for batch in windows.reshape(n_batches, batch_size))


def read_windows(packed: Packed, starts: Int[np.ndarray, " batch"], *, n_ctx: int) -> Int[Tensor, "batch pos_plus_one"]:
    """Return the n_ctx + 1 tokens from each start on."""
    return torch.from_numpy(np.stack([packed.read(int(start), n_ctx + 1) for start in starts]))
