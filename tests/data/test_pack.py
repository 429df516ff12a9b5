"""What is written to shards is read back, from wherever and however often."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sparse_circuits.data.pack import Packed, ShardWriter, open_shard, repeat, token_dtype
from sparse_circuits.errors import UserError

DOCUMENTS = st.lists(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=30), min_size=1, max_size=12)


def write(folder: Path, documents: list[list[int]], *, shard_tokens: int, d_vocab: int = 2**16) -> ShardWriter:
    writer = ShardWriter(folder, "x", dtype=token_dtype(d_vocab), shard_tokens=shard_tokens)
    for document in documents:
        writer.add(document)
    writer.close()
    return writer


@given(documents=DOCUMENTS, shard_tokens=st.integers(1, 40), data=st.data())
def test_shards_are_full_but_the_last_and_read_as_one_sequence(
    documents: list[list[int]], shard_tokens: int, data: st.DataObject
) -> None:
    tokens = [token for document in documents for token in document]
    with TemporaryDirectory() as folder:
        writer = write(Path(folder), documents, shard_tokens=shard_tokens)
        packed = Packed([open_shard(Path(folder), shard, dtype=writer.dtype) for shard in writer.shards])
        start = data.draw(st.integers(0, len(tokens)))
        stop = data.draw(st.integers(start, len(tokens)))
        assert packed.read(start, stop - start).tolist() == tokens[start:stop]
    assert len(packed) == writer.n_tokens == len(tokens)
    assert [shard.n_tokens for shard in writer.shards[:-1]] == [shard_tokens] * (len(writer.shards) - 1)


@given(documents=DOCUMENTS, n_tokens=st.integers(1, 500))
def test_a_cut_ends_with_the_document_that_reaches_it(documents: list[list[int]], n_tokens: int) -> None:
    with TemporaryDirectory() as folder:
        cut = write(Path(folder), documents, shard_tokens=1000).through_document(n_tokens)
    n_reached = index = 0
    while n_reached < n_tokens:
        n_reached += len(documents[index % len(documents)])
        index += 1
    assert cut == n_reached


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), n_tokens=st.integers(0, 40))
def test_repeating_goes_round_and_round(lengths: list[int], n_tokens: int) -> None:
    tokens = np.arange(sum(lengths))
    segments = np.split(tokens, np.cumsum(lengths)[:-1])
    packed = Packed(repeat(segments, n_tokens=n_tokens))
    assert packed.read(0, len(packed)).tolist() == np.resize(tokens, n_tokens).tolist()


@pytest.mark.parametrize(("d_vocab", "n_bytes"), [(257, 2), (2**16, 2), (2**16 + 1, 4)])
def test_a_token_takes_as_few_bytes_as_the_vocabulary_allows(tmp_path: Path, d_vocab: int, n_bytes: int) -> None:
    writer = write(tmp_path, [[0, d_vocab - 1]], shard_tokens=10, d_vocab=d_vocab)
    assert (tmp_path / "x-00000.bin").stat().st_size == 2 * n_bytes
    assert open_shard(tmp_path, writer.shards[0], dtype=writer.dtype).tolist() == [0, d_vocab - 1]


def test_a_missing_cut_or_altered_shard_is_refused(tmp_path: Path) -> None:
    writer = write(tmp_path, [[1, 2, 3]], shard_tokens=10)
    path = tmp_path / "x-00000.bin"
    whole = path.read_bytes()
    for content, sentence in ((whole[:-1], "has not the length"), (b"\7" + whole[1:], "is damaged")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=sentence):
            open_shard(tmp_path, writer.shards[0], dtype=writer.dtype)
    path.unlink()
    with pytest.raises(UserError, match="is missing: delete"):
        open_shard(tmp_path, writer.shards[0], dtype=writer.dtype)
