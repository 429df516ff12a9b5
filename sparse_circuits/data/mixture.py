"""Sources to a folder of packed tokens: de-duplicate, split, tokenise, weigh.

1. A document is dropped when one with the same text, white space apart, came before it.
2. It goes to the validation split when the hash of its text falls below `validation_fraction`: the same document falls
   on the same side in every corpus, whatever the seed.
3. The vocabulary is learned from training documents only, each source giving at most its share of a bounded sample.
4. A source's weight is its share of the training tokens. The finite source that is largest for its weight is used
   exactly once; the others are repeated, and endless sources are generated, until they reach their share. With
   `n_tokens` the total is given, and a source that is larger than its share is cut. Cuts fall between documents.
   Repeating costs no disk: shards hold a source once.
5. The validation split holds each source's own held-back documents once.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path

from sparse_circuits.data.corpus import SourceConfig, SourceKind
from sparse_circuits.data.manifest import PackedSource, make_manifest
from sparse_circuits.data.pack import ShardWriter, token_dtype
from sparse_circuits.data.sources import Source
from sparse_circuits.data.split import batches, distinct, is_validation, sample_texts
from sparse_circuits.data.tokenizer import Tokenizer, check_d_vocab
from sparse_circuits.errors import UserError, check_counts
from sparse_circuits.run import write_json

SAMPLE_CHARS = 20_000_000  # what the vocabulary is learned from, at most
CHARS_PER_TOKEN = 4  # of code under a small vocabulary, rounded up

log = logging.getLogger(__name__)


def _stdlib_and_idioms() -> list[SourceConfig]:
    return [SourceConfig(SourceKind.stdlib), SourceConfig(SourceKind.idioms, weight=2.0)]


@dataclass(frozen=True)
class DataConfig:
    """A weighted mixture of sources, its vocabulary and its split."""

    sources: list[SourceConfig] = field(default_factory=_stdlib_and_idioms)
    """The sources and their weights."""
    d_vocab: int = 2048
    """Ids of the vocabulary to learn, the 256 bytes and end_of_text included."""
    tokenizer: Path | None = None
    """A tokenizer.json to use instead of learning one."""
    n_tokens: int | None = None
    """Training tokens in all; without it, as many as the largest finite source asks for."""
    validation_fraction: float = 0.05
    """Share of the documents that are held back."""
    seed: int = 0
    """Of the order of files and of the generated documents."""
    folder: Path = Path("data_cache")
    """Where prepared data are kept, each configuration in a folder of its own."""
    shard_tokens: int = 2**26
    """Tokens in one file, at most."""

    def __post_init__(self) -> None:
        check_d_vocab(self.d_vocab)
        titles = [source.title for source in self.sources]
        if not titles:
            raise UserError("The corpus has no sources: give at least one.")
        if len(set(titles)) < len(titles):
            raise UserError(f"Two sources share a name ({', '.join(titles)}): give each a name of its own.")
        if not 0 < self.validation_fraction < 1:
            raise UserError(f"validation_fraction is {self.validation_fraction}: choose one between 0 and 1.")
        check_counts(vars(self), "n_tokens", "shard_tokens")

    @property
    def shares(self) -> dict[str, float]:
        """Share of the training tokens of each source, by title; they sum to 1."""
        total = sum(source.weight for source in self.sources)
        return {source.title: source.weight / total for source in self.sources}

    def owed(self, n_total: int) -> dict[str, int]:
        """Return the training tokens that each source owes to a mixture of `n_total`, by title."""
        return {title: max(1, round(n_total * share)) for title, share in self.shares.items()}


def build(config: DataConfig, sources: Sequence[Source], folder: Path) -> None:
    """Write tokenizer.json, the shards and manifest.json into the new folder `folder`.

    Raises:
        UserError: a source gives no training text, or nothing is left for validation.
    """
    finite = [source for source in sources if not source.is_endless]
    endless = [source for source in sources if source.is_endless]
    if config.n_tokens is None and not finite:
        raise UserError("The idioms have no end: give n_tokens, or max_documents of the source.")
    folder.mkdir()
    tokenizer = learn_tokenizer(config, [*finite, *endless])
    tokenizer.save(folder / "tokenizer.json")
    seen: set[bytes] = set()

    def pack(source: Source, n_total: int | None) -> PackedSource:
        n_tokens = None if n_total is None else config.owed(n_total)[source.title]
        return pack_source(source, tokenizer, config=config, folder=folder, seen=seen, n_tokens=n_tokens)

    packed = [pack(source, config.n_tokens) for source in finite]
    n_total = config.n_tokens or max(round(part.train.n_tokens / config.shares[part.source.title]) for part in packed)
    packed += [pack(source, n_total) for source in endless]
    if not any(part.validation.n_tokens for part in packed):
        raise UserError("No document fell into the validation split: raise validation_fraction or give more documents.")
    plain_config = json.loads(json.dumps(asdict(config), default=_json_value))
    manifest = make_manifest(packed, tokenizer=tokenizer, n_owed=config.owed(n_total), config=plain_config)
    write_json(folder / "manifest.json", manifest)


def _json_value(value: Enum | Path) -> str:
    return value.name if isinstance(value, Enum) else str(value)


def learn_tokenizer(config: DataConfig, sources: Sequence[Source]) -> Tokenizer:
    """Return the given tokenizer, or learn one from a sample of the training documents; endless sources come last."""
    if config.tokenizer is not None:
        return Tokenizer.load(config.tokenizer)
    texts: list[str] = []
    seen: set[bytes] = set()
    n_total = min(SAMPLE_CHARS, (config.n_tokens or SAMPLE_CHARS) * CHARS_PER_TOKEN)
    n_reached = 0
    for source in sources:
        if source.is_endless and config.n_tokens is None:
            n_total = min(n_total, n_reached)
        share = config.shares[source.title]
        n_chars = round(share * n_total)
        sample = sample_texts(source.documents(), seen=seen, fraction=config.validation_fraction, n_chars=n_chars)
        n_reached = max(n_reached, round(sum(map(len, sample)) / share))
        texts += sample
    return Tokenizer.train(texts, d_vocab=config.d_vocab)


def pack_source(
    source: Source,
    tokenizer: Tokenizer,
    *,
    config: DataConfig,
    folder: Path,
    seen: set[bytes],
    n_tokens: int | None,
) -> PackedSource:
    """Tokenise a source to shards, up to `n_tokens` training tokens where given.

    Raises:
        UserError: it gives no training text.
    """
    dtype = token_dtype(tokenizer.d_vocab)
    train, validation = (
        ShardWriter(folder, f"{source.title}-{split}", dtype=dtype, shard_tokens=config.shard_tokens)
        for split in ("train", "validation")
    )
    content = hashlib.sha256()
    n_duplicates = 0
    for batch in batches(source.documents()):
        fresh = list(distinct(batch, seen=seen))
        n_duplicates += len(batch) - len(fresh)
        for document, ids in zip(fresh, tokenizer.encode_batch([document.text for document in fresh]), strict=True):
            writer = validation if is_validation(document, fraction=config.validation_fraction) else train
            writer.add([*ids, tokenizer.end_of_text])
            content.update(document.digest)
        if n_tokens is not None and train.n_tokens >= n_tokens:
            break
    train.close()
    validation.close()
    if not train.ends:
        raise UserError(
            f"The source {source.title} gives no training text (blank, duplicate and held-back documents apart): "
            "give more documents."
        )
    log.info("%s: %d training tokens in %d documents", source.title, train.n_tokens, len(train.ends))
    return PackedSource(source, train, validation, n_duplicates, content.hexdigest())
