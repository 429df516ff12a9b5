"""Token ids on disk: shards of bounded size, memory-mapped and read as one long sequence.

A shard is raw little-endian uint16 (uint32 above 65,536 ids) without a header; the manifest has its length and hash.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Integer

from sparse_circuits.errors import UserError
from sparse_circuits.run import sha256_file


class Shard(NamedTuple):
    """What the manifest says of one file."""

    file: str
    """Path inside the data folder."""
    n_tokens: int
    sha256: str


def token_dtype(d_vocab: int) -> np.dtype:
    """Return the smallest dtype that holds every id."""
    return np.dtype("<u2" if d_vocab <= 2**16 else "<u4")


class ShardWriter:
    """Writes documents as files `{stem}-00000.bin`, `{stem}-00001.bin`, ... of at most `shard_tokens` tokens each."""

    def __init__(self, folder: Path, stem: str, *, dtype: np.dtype, shard_tokens: int) -> None:
        self.folder, self.stem, self.dtype, self.shard_tokens = folder, stem, dtype, shard_tokens
        self.shards: list[Shard] = []
        self.ends: list[int] = []  # tokens written when each document ended
        self._pending = [np.empty(0, dtype)]
        self._n_pending = 0

    @property
    def n_tokens(self) -> int:
        """Tokens of all documents."""
        return self.ends[-1] if self.ends else 0

    def add(self, ids: Sequence[int]) -> None:
        """Append one document's tokens."""
        self.ends.append(self.n_tokens + len(ids))
        self._pending.append(np.array(ids, self.dtype))
        self._n_pending += len(ids)
        while self._n_pending >= self.shard_tokens:
            self._write_shard()

    def close(self) -> None:
        """Write what is left."""
        if self._n_pending:
            self._write_shard()

    def through_document(self, n_tokens: int) -> int:
        """Return the smallest count from `n_tokens` on that ends a document, all of them repeated without end."""
        n_passes, position = divmod(n_tokens, self.n_tokens)
        return n_passes * self.n_tokens + (self.ends[bisect_left(self.ends, position)] if position else 0)

    def _write_shard(self) -> None:
        pending = np.concatenate(self._pending)
        tokens, rest = pending[: self.shard_tokens], pending[self.shard_tokens :]
        file = f"{self.stem}-{len(self.shards):05d}.bin"
        tokens.tofile(self.folder / file)
        self.shards.append(Shard(file, len(tokens), hashlib.sha256(tokens.tobytes()).hexdigest()))
        self._pending, self._n_pending = [rest], len(rest)


def open_shard(folder: Path, shard: Shard, *, dtype: np.dtype) -> Integer[np.ndarray, " n_tokens"]:
    """Map one shard into memory.

    Raises:
        UserError: it is missing, cut short or altered.
    """
    path = folder / shard.file
    remedy = f"delete {folder} to have it prepared again"
    if not path.is_file():
        raise UserError(f"The shard {path} is missing: {remedy}.")
    if path.stat().st_size != shard.n_tokens * dtype.itemsize:
        raise UserError(f"The shard {path} has not the length that its manifest states: {remedy}.")
    if sha256_file(path) != shard.sha256:
        raise UserError(f"The shard {path} is damaged (its hash is not the manifest's): {remedy}.")
    return np.asarray(np.memmap(path, dtype, mode="r"))


class Packed:
    """One split: segments of tokens laid end to end, each document followed by end_of_text."""

    def __init__(self, segments: Sequence[np.ndarray]) -> None:
        self._segments = segments
        self._starts = [0, *accumulate(len(segment) for segment in segments)]

    def __len__(self) -> int:
        return self._starts[-1]

    def read(self, start: int, n_tokens: int) -> Int[np.ndarray, " n_tokens"]:
        """Return the tokens from `start` on as int64."""
        assert 0 <= start <= start + n_tokens <= len(self)
        return np.concatenate([np.empty(0, np.int64), *self._pieces(start, n_tokens)], dtype=np.int64)

    def _pieces(self, start: int, n_tokens: int) -> Iterator[np.ndarray]:
        index = bisect_right(self._starts, start) - 1
        while n_tokens > 0:
            within = start - self._starts[index]
            piece = self._segments[index][within : within + n_tokens]
            yield piece
            start, n_tokens, index = start + len(piece), n_tokens - len(piece), index + 1


def repeat(segments: Sequence[np.ndarray], *, n_tokens: int) -> list[np.ndarray]:
    """Return views of `segments` over and over, cut after `n_tokens` in all."""
    views = []
    for segment in cycle(segments):
        if n_tokens <= 0:
            break
        views.append(segment[:n_tokens])
        n_tokens -= len(views[-1])
    return views
