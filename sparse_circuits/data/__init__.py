"""Corpus to tokenizer to packed tokens to resumable batches."""

from sparse_circuits.data.corpus import Document, SourceConfig, SourceKind
from sparse_circuits.data.dataset import Dataset, check_corpus, open_dataset, prepare
from sparse_circuits.data.loader import Loader, validation_batches
from sparse_circuits.data.mixture import DataConfig
from sparse_circuits.data.pack import Packed
from sparse_circuits.data.tokenizer import Tokenizer

__all__ = [
    "DataConfig",
    "Dataset",
    "Document",
    "Loader",
    "Packed",
    "SourceConfig",
    "SourceKind",
    "Tokenizer",
    "check_corpus",
    "open_dataset",
    "prepare",
    "validation_batches",
]
