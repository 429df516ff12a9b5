"""The command line: exit codes and sentences, before any work starts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_circuits import cli
from sparse_circuits.conf.verbs import VERBS
from sparse_circuits.walk.verbs import DO


def test_every_verb_has_a_config_and_someone_who_does_it() -> None:
    assert cli.VERBS.keys() == VERBS.keys() == DO.keys()


@pytest.mark.parametrize("arguments", [[], ["--help"], ["train", "--help"]])
def test_help_exits_with_zero(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    assert "setting=value" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], 'no verb "trian" (did you mean "train"?)'),
        (["train", "model=huge"], 'no model preset "huge"'),
        (["train", "tasks=[single_double_qoute]"], 'did you mean "single_double_quote"?'),
        (["train", "l0_fraction=0.001"], "raise l0_fraction"),
        (["train", "data.sources=[{kind:files,paths:['/nowhere/*.py']}]"], "/nowhere/*.py"),
        (["train", "batch_size=1000000", "n_tokens=1000"], "below one step"),
        (["train", "batch_size=7", "accumulation=2"], "choose a divisor"),
        (["tasks"], "Say what to examine"),
        (["tasks", "run=/nowhere"], "does not exist"),
        (["extract", "run=/nowhere"], "does not exist"),
        (["report", "run=/nowhere"], "/nowhere"),
        (["view", "run=/nowhere"], "/nowhere"),
    ],
)
def test_a_mistake_exits_with_two_and_one_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.startswith("sparse-circuits: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["data", "--multirun", "seed=0,1"], "--multirun is of train, extract, quickstart, bridge, dit"),
        (["report", "run=a,b", "-m"], "call report several times"),
        (["train", "--multirun", "model=tyny,small"], 'no model preset "tyny" (did you mean "tiny"?)'),
        (["train", "--multirun", "l0_fraction=abc,0.1"], 'l0_fraction takes a number, not "abc"'),
        (["train", "--multirun", "foo=1,2"], 'train has no setting "foo"'),
        (["train", "--multirun", "seed=0,1", "run="], "run= names no path"),
        (["train", "--multirun", "+foo=1,2"], 'train has no setting "foo"'),
        (["train", "--multirun", "seed=0,1", "n_tokens=1"], "below one step"),
    ],
)
def test_a_mistake_under_multirun_is_no_other(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    test_a_mistake_exits_with_two_and_one_sentence(arguments, says, capsys, tmp_path, monkeypatch)


@pytest.mark.parametrize("arguments", [["--help"], ["report", "--help"]])
def test_whom_nobody_reads_on_ends_quietly(arguments: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "sparse_circuits.cli", *arguments]
    ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (ended.returncode, ended.stderr) == (1, "")


def test_an_interruption_exits_with_130_and_says_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(DO, "report", interrupt)
    assert cli.main(["report"]) == 130
    assert capsys.readouterr().err == "sparse-circuits: interrupted\n"
