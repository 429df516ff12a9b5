"""Which documents are kept, and on which side of the split they fall: both are read off the hash of the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sparse_circuits.data.corpus import Document

BATCH_CHARS = 250_000  # what is tokenised at once: enough for all cores, and little beyond an endless source's share


def distinct(documents: Iterable[Document], *, seen: set[bytes]) -> Iterator[Document]:
    """Yield the documents whose text is not in `seen`, and add it."""
    for document in documents:
        if document.digest not in seen:
            seen.add(document.digest)
            yield document


def is_validation(document: Document, *, fraction: float) -> bool:
    """Say whether the document is held back: its hash, read as a number between 0 and 1, is below `fraction`."""
    return int.from_bytes(document.digest[:8]) < fraction * 2**64


def sample_texts(documents: Iterable[Document], *, seen: set[bytes], fraction: float, n_chars: int) -> list[str]:
    """Return the texts of the first training documents, of `n_chars` characters and the rest of the last one."""
    texts: list[str] = []
    for document in distinct(documents, seen=seen):
        if n_chars <= 0:
            break
        if not is_validation(document, fraction=fraction):
            texts.append(document.text)
            n_chars -= len(document.text)
    return texts


def batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Yield the documents in lists of about `BATCH_CHARS` characters."""
    batch: list[Document] = []
    n_chars = 0
    for document in documents:
        batch.append(document)
        n_chars += len(document.text)
        if n_chars >= BATCH_CHARS:
            yield batch
            batch, n_chars = [], 0
    if batch:
        yield batch
