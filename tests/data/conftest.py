"""A small corpus of Python files, some of them copies of each other."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_circuits.data import DataConfig, SourceConfig, SourceKind


def module(index: int) -> str:
    """Return a small module unlike any other index's."""
    functions = [
        f'def total_{index}_{part}(values, start=None):\n    """Add the values."""\n    result = {index * part}\n'
        f'    for value in values:\n        result += value\n    print("Total is", result)\n    return [[result]]\n'
        for part in range(8)
    ]
    return "\n\n".join(functions)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Return a folder of 40 distinct modules, a copy of one with other white space, and a blank one."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for index in range(40):
        (folder / f"module_{index}.py").write_text(module(index))
    (folder / "copy.py").write_text(module(3).replace("\n\n", "\n\n\n"))
    (folder / "blank.py").write_text("\n  \n")
    return folder


@pytest.fixture
def make_config(corpus: Path, tmp_path: Path) -> Callable[..., DataConfig]:
    """Return a function from differences to the configuration of the small corpus."""

    def make(**differences: object) -> DataConfig:
        options = {
            "sources": [SourceConfig(SourceKind.files, paths=[f"{corpus}/*.py"])],
            "d_vocab": 400,
            "validation_fraction": 0.2,
            "folder": tmp_path / "cache",
            "shard_tokens": 1000,
        }
        return DataConfig(**(options | differences))

    return make
