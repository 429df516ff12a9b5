"""What a prepared folder says of itself, in exact counts, and how its two splits are read back from that."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sparse_circuits.data.pack import Packed, Shard, ShardWriter, open_shard, repeat, token_dtype
from sparse_circuits.data.sources import Source
from sparse_circuits.data.tokenizer import Tokenizer


class PackedSource(NamedTuple):
    """What was written of one source."""

    source: Source
    train: ShardWriter
    validation: ShardWriter
    n_duplicates: int
    sha256: str
    """Of the kept documents' digests, in order."""


def make_manifest(
    packed: Sequence[PackedSource], *, tokenizer: Tokenizer, n_owed: Mapping[str, int], config: dict[str, Any]
) -> dict[str, Any]:
    """Return the manifest of a mixture.

    Args:
        n_owed: training tokens that each source owes to the mixture, by title.
        config: the configuration as JSON values.
    """
    sources = {part.source.title: _describe(part, n_owed[part.source.title]) for part in packed}
    n_train_tokens = sum(source["train"]["n_tokens_used"] for source in sources.values())
    for source in sources.values():
        source["share"] = source["train"]["n_tokens_used"] / n_train_tokens
    manifest = {
        "n_train_tokens": n_train_tokens,
        "n_validation_tokens": sum(source["validation"]["n_tokens"] for source in sources.values()),
        "tokenizer": {"d_vocab": tokenizer.d_vocab, "end_of_text": tokenizer.end_of_text, "hash": tokenizer.hash},
        "sources": sources,
        "config": config,
    }
    return {"hash": _content_hash(manifest), **manifest}


def open_train(folder: Path, manifest: Mapping[str, Any]) -> Packed:
    """Return the training tokens: each source's shards, repeated or cut to what it owes.

    Raises:
        UserError: a shard is missing or damaged.
    """
    segments: list[np.ndarray] = []
    for source in manifest["sources"].values():
        shards = _open_shards(folder, manifest, source["train"]["shards"])
        segments += repeat(shards, n_tokens=source["train"]["n_tokens_used"])
    return Packed(segments)


def open_validation(folder: Path, manifest: Mapping[str, Any]) -> Packed:
    """Return the validation tokens: each source's once, in the order of the sources.

    Raises:
        UserError: a shard is missing or damaged.
    """
    shards = [shard for source in manifest["sources"].values() for shard in source["validation"]["shards"]]
    return Packed(_open_shards(folder, manifest, shards))


def _open_shards(folder: Path, manifest: Mapping[str, Any], shards: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
    dtype = token_dtype(manifest["tokenizer"]["d_vocab"])
    return [open_shard(folder, Shard(**shard), dtype=dtype) for shard in shards]


def _describe(part: PackedSource, n_owed: int) -> dict[str, Any]:
    n_tokens_used = part.train.through_document(n_owed)
    return {
        "origin": part.source.origin(),
        "licence": part.source.config.licence or part.source.licence or "not stated",
        "sha256": part.sha256,
        "n_duplicates": part.n_duplicates,
        "train": {
            "n_tokens_used": n_tokens_used,
            "n_passes": n_tokens_used / part.train.n_tokens,
            **_counts(part.train),
        },
        "validation": _counts(part.validation),
    }


def _counts(writer: ShardWriter) -> dict[str, Any]:
    shards = [shard._asdict() for shard in writer.shards]
    return {"n_documents": len(writer.ends), "n_tokens": writer.n_tokens, "shards": shards}


def _content_hash(manifest: Mapping[str, Any]) -> str:
    """Return one hash of the vocabulary and every token, wherever the sources were read from."""
    splits = [[source["train"], source["validation"]] for source in manifest["sources"].values()]
    return hashlib.sha256(json.dumps([manifest["tokenizer"], splits]).encode()).hexdigest()
