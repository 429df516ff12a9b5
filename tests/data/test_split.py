"""A document is kept once, and falls on one side whatever stands around it."""

from sparse_circuits.data import Document
from sparse_circuits.data.split import batches, distinct, is_validation, sample_texts

DOCUMENTS = [Document(f"value = {index}\n" * 200, "x") for index in range(2000)]


def test_only_the_first_of_equal_documents_is_kept() -> None:
    documents = [Document(text, "x") for text in ("a b", "c", "a  b\n", "c", "d")]
    assert [document.text for document in distinct(documents, seen=set())] == ["a b", "c", "d"]


def test_the_held_back_share_is_the_one_asked_for_and_nested() -> None:
    tenth = {document for document in DOCUMENTS if is_validation(document, fraction=0.1)}
    third = {document for document in DOCUMENTS if is_validation(document, fraction=0.3)}
    assert abs(len(tenth) / 2000 - 0.1) < 0.03
    assert tenth < third


def test_a_sample_holds_no_validation_text_and_stops_in_time() -> None:
    texts = sample_texts(DOCUMENTS, seen=set(), fraction=0.3, n_chars=50_000)
    held_back = {document.text for document in DOCUMENTS if is_validation(document, fraction=0.3)}
    assert not held_back & set(texts)
    assert 50_000 <= sum(map(len, texts)) < 50_000 + max(map(len, texts))


def test_batches_lose_nothing() -> None:
    cut = list(batches(DOCUMENTS))
    assert len(cut) > 2
    assert [document for batch in cut for document in batch] == DOCUMENTS
