"""Sources are mixed in the shares asked for, counted exactly, and no document is on both sides."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_circuits.data import DataConfig, Dataset, Packed, SourceConfig, SourceKind, Tokenizer, prepare
from sparse_circuits.errors import UserError

MakeConfig = Callable[..., DataConfig]


def documents(packed: Packed, dataset: Dataset) -> list[str]:
    """Return the decoded documents; a cut inside one would show as a text without its end."""
    text = dataset.tokenizer.decode(packed.read(0, len(packed)).tolist())
    assert text.endswith("<|endoftext|>")
    return text.split("<|endoftext|>")[:-1]


def files(paths: str, **options: object) -> SourceConfig:
    return SourceConfig(SourceKind.files, paths=[paths], **options)


@pytest.fixture
def halves(corpus: Path) -> list[SourceConfig]:
    """Return the small corpus as two sources, the first nearly three times as large."""
    return [
        files(f"{corpus}/module_[1-3]*.py", name="large", weight=0.4),
        files(f"{corpus}/module_[04-9].py", name="small", weight=0.6),
    ]


def test_one_source_is_read_once_and_split_without_overlap(make_config: MakeConfig, corpus: Path) -> None:
    dataset = prepare(make_config())
    train, validation = documents(dataset.train, dataset), documents(dataset.validation, dataset)
    texts = {path.read_text() for path in corpus.glob("module_*.py")}
    copy = (corpus / "copy.py").read_text()
    assert {*train, *validation} - {copy} <= texts
    assert len(train) + len(validation) == len({*train, *validation}) == 40
    assert validation


def test_the_manifest_counts_exactly(make_config: MakeConfig) -> None:
    dataset = prepare(make_config())
    source = dataset.manifest["sources"]["files"]
    assert source["n_duplicates"] == 1
    assert source["train"]["n_passes"] == source["share"] == 1
    assert dataset.manifest["n_train_tokens"] == source["train"]["n_tokens"] == len(dataset.train)
    for packed, split in ((dataset.train, source["train"]), (dataset.validation, source["validation"])):
        assert split["n_documents"] == len(documents(packed, dataset))
        assert split["n_tokens"] == sum(shard["n_tokens"] for shard in split["shards"]) == len(packed)
        assert all(shard["n_tokens"] <= 1000 for shard in split["shards"])
    assert len(source["train"]["shards"]) > 3
    assert source["licence"] == "not stated"
    assert dataset.manifest["config"]["sources"][0]["kind"] == "files"


def test_weights_are_shares_of_the_training_tokens(make_config: MakeConfig, halves: list[SourceConfig]) -> None:
    dataset = prepare(make_config(sources=halves))
    large, small = (dataset.manifest["sources"][name] for name in ("large", "small"))
    assert large["train"]["n_passes"] == 1
    assert small["train"]["n_passes"] > 3
    one_document = large["train"]["n_tokens"] / large["train"]["n_documents"] * 1.2
    assert abs(small["train"]["n_tokens_used"] - 1.5 * large["train"]["n_tokens"]) < one_document
    train = documents(dataset.train, dataset)
    assert len(set(train)) == large["train"]["n_documents"] + small["train"]["n_documents"] < len(train)


def test_a_total_cuts_and_repeats(make_config: MakeConfig, halves: list[SourceConfig]) -> None:
    dataset = prepare(make_config(sources=halves, n_tokens=12_000))
    large, small = (dataset.manifest["sources"][name] for name in ("large", "small"))
    assert large["train"]["n_passes"] < 1 < small["train"]["n_passes"]
    assert 12_000 <= len(dataset.train) < 14_000
    assert all(text.endswith("\n") for text in documents(dataset.train, dataset))


def test_idioms_are_generated_up_to_their_share(make_config: MakeConfig, corpus: Path) -> None:
    sources = [files(f"{corpus}/*.py"), SourceConfig(SourceKind.idioms, weight=3.0)]
    dataset = prepare(make_config(sources=sources))
    assert dataset.manifest["sources"]["files"]["train"]["n_passes"] == 1
    assert dataset.manifest["sources"]["idioms"]["train"]["n_passes"] <= 1
    assert dataset.manifest["sources"]["idioms"]["share"] == pytest.approx(0.75, abs=0.01)


def test_the_same_configuration_gives_the_same_tokens(make_config: MakeConfig, tmp_path: Path) -> None:
    some, others = prepare(make_config()), prepare(make_config(folder=tmp_path / "other"))
    assert some.folder != others.folder
    assert some.hash == others.hash
    assert prepare(make_config(seed=1)).hash != some.hash


def test_a_given_tokenizer_is_used(make_config: MakeConfig, tmp_path: Path) -> None:
    tokenizer = Tokenizer.train(["result result result"], d_vocab=260)
    tokenizer.save(tmp_path / "mine.json")
    assert prepare(make_config(tokenizer=tmp_path / "mine.json")).tokenizer.hash == tokenizer.hash


@pytest.mark.parametrize(
    ("differences", "sentence"),
    [
        ({"sources": []}, "has no sources"),
        ({"sources": [SourceConfig(SourceKind.stdlib)] * 2}, r"share a name \(stdlib, stdlib\)"),
        ({"d_vocab": 256}, "d_vocab is 256"),
        ({"validation_fraction": 0.0}, "validation_fraction is 0.0"),
        ({"validation_fraction": 1.0}, "validation_fraction is 1.0"),
        ({"n_tokens": 0}, "n_tokens is 0"),
        ({"shard_tokens": 0}, "shard_tokens is 0"),
    ],
)
def test_a_wrong_option_is_refused(make_config: MakeConfig, differences: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_config(**differences)


def test_idioms_alone_need_a_total(make_config: MakeConfig) -> None:
    idioms = [SourceConfig(SourceKind.idioms)]
    with pytest.raises(UserError, match="give n_tokens"):
        prepare(make_config(sources=idioms))
    assert 5_000 <= len(prepare(make_config(sources=idioms, n_tokens=5_000)).train) < 7_000


def test_an_empty_corpus_is_refused(make_config: MakeConfig, corpus: Path) -> None:
    with pytest.raises(UserError, match="files gives no training text"):
        prepare(make_config(sources=[files(f"{corpus}/blank.py")]))


def test_a_corpus_without_validation_is_refused(make_config: MakeConfig, corpus: Path) -> None:
    with pytest.raises(UserError, match="raise validation_fraction"):
        prepare(make_config(sources=[files(f"{corpus}/module_1.py")], validation_fraction=1e-6))
