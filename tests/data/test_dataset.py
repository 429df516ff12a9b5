"""Prepared data are built once, found again, and refused when damaged."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from sparse_circuits.data import DataConfig, SourceKind, dataset, open_dataset, prepare
from sparse_circuits.errors import UserError

MakeConfig = Callable[..., DataConfig]


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the folders built so far."""
    folders = []
    build = dataset.build

    def counted(config: DataConfig, sources: list, folder: Path) -> None:
        folders.append(folder)
        build(config, sources, folder)

    monkeypatch.setattr(dataset, "build", counted)
    return folders


def test_prepared_data_are_found_again(make_config: MakeConfig, builds: list[Path]) -> None:
    assert prepare(make_config()).hash == prepare(make_config()).hash
    assert len(builds) == 1


def test_other_options_or_changed_files_are_prepared_anew(make_config: MakeConfig, corpus: Path, builds: list[Path]) -> None:
    prepare(make_config())
    prepare(make_config(d_vocab=300))
    (corpus / "module_0.py").write_text("something = else_\n")
    prepare(make_config())
    assert len(builds) == 3


def test_one_builds_while_the_others_wait(make_config: MakeConfig, builds: list[Path]) -> None:
    with ThreadPoolExecutor(4) as pool:
        hashes = {prepared.hash for prepared in pool.map(prepare, [make_config()] * 4)}
    assert len(hashes) == len(builds) == 1


def test_a_failed_build_leaves_nothing(make_config: MakeConfig, corpus: Path, tmp_path: Path) -> None:
    (corpus / "binary.py").write_bytes(b"\0\0")
    with pytest.raises(UserError, match="is a binary file"):
        prepare(make_config())
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def test_a_damaged_folder_is_refused(make_config: MakeConfig) -> None:
    folder = prepare(make_config()).folder
    shard = folder / "files-train-00001.bin"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(UserError, match=r"files-train-00001\.bin is damaged"):
        prepare(make_config())


def test_another_tokenizer_in_the_folder_is_refused(make_config: MakeConfig) -> None:
    some, other = prepare(make_config()), prepare(make_config(d_vocab=300))
    other.tokenizer.save(some.folder / "tokenizer.json")
    with pytest.raises(UserError, match="is not the manifest's"):
        open_dataset(some.folder)


def test_a_folder_that_cannot_be_written_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="choose another data folder"):
        prepare(make_config(folder=tmp_path / "file"))


def test_a_missing_tokenizer_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.json"):
        prepare(make_config(tokenizer=tmp_path / "nowhere.json"))


def test_the_configuration_composes_from_plain_values() -> None:
    node = OmegaConf.structured(DataConfig)
    OmegaConf.set_readonly(node, False)
    differences = ["sources=[{kind: files, weight: 2, paths: [a/*.py]}, {kind: idioms}]", "tokenizer=mine.json"]
    config = OmegaConf.to_object(OmegaConf.merge(node, OmegaConf.from_dotlist(differences)))
    assert [source.kind for source in config.sources] == [SourceKind.files, SourceKind.idioms]
    assert config.shares == {"files": 2 / 3, "idioms": 1 / 3}
    assert config.tokenizer == Path("mine.json")
