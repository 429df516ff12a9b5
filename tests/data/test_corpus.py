"""Sources are a closed set with checked options; white space makes no new document."""

import jaxtyping
import pytest

from sparse_circuits.data import Document, SourceConfig, SourceKind
from sparse_circuits.errors import UserError


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kind": SourceKind.stdlib, "weight": 0.0}, "weight of the source stdlib is 0.0"),
        ({"kind": SourceKind.stdlib, "weight": float("nan")}, "weight of the source stdlib is nan"),
        ({"kind": SourceKind.stdlib, "weight": float("inf")}, "weight of the source stdlib is inf"),
        ({"kind": SourceKind.stdlib, "max_documents": 0}, "give at least 1"),
        ({"kind": SourceKind.stdlib, "name": "../up"}, "becomes a file name"),
        ({"kind": SourceKind.stdlib, "paths": ["*.py"]}, "kind stdlib has no option paths"),
        ({"kind": SourceKind.files, "paths": ["*.py"], "split": "test"}, "kind files has no option split"),
        ({"kind": SourceKind.files}, "kind files needs paths"),
        ({"kind": SourceKind.hub, "dataset": "somebody/code"}, "kind hub needs dataset and max_documents"),
    ],
)
def test_a_wrong_option_is_refused(options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        SourceConfig(**options)


def test_an_unknown_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # users run without the checks of the tests
    with pytest.raises(UserError, match=r'Unknown source kind "stdlb" \(did you mean "stdlib"\?\)'):
        SourceConfig("stdlb")


def test_white_space_makes_no_new_document() -> None:
    assert Document("a  = 1\n", "x").digest == Document("\na = 1", "y").digest
    assert Document("a = 1", "x").digest != Document("a = 2", "x").digest


def test_broken_unicode_is_refused() -> None:
    with pytest.raises(UserError, match="A document of mine is broken Unicode"):
        _ = Document("\ud800", "mine").digest
