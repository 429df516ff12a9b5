"""From overrides to a verb's dataclass: Hydra composes, its complaints become one sentence, and it stops at this door."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparse_circuits.conf.verbs import VERBS
from sparse_circuits.errors import UserError, nearest

FOLDER = "sparse_circuits.conf"
KINDS = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false"}
SWEPT = ("train", "extract", "quickstart", "bridge", "dit")
"""Verbs that create their run folder (`extract` with checkpoint=), so that every job of a multirun can have one."""
# A run folder explains itself, so Hydra writes none of its own.
QUIET = (
    "hydra.output_subdir=null",
    "hydra.run.dir=.",
    "hydra.sweep.dir=${run}",
    "hydra.sweep.subdir=.",
    "hydra/job_logging=none",
    "hydra/hydra_logging=none",
)


def config_class(verb: str) -> type:
    """Return the dataclass of a verb."""
    return VERBS[verb]


def compose(verb: str, overrides: Sequence[str] = ()) -> Any:
    """Return the verb's config with the overrides of the command line, as its dataclass.

    Raises:
        UserError: an unknown preset, key or value, with the nearest name; a setting that cannot be; or a path without a value.
    """
    _refuse_blanks(verb, overrides)
    register()
    with hydra.initialize_config_module(FOLDER, version_base="1.3"), _in_one_sentence(verb):
        return OmegaConf.to_object(hydra.compose(verb, overrides=list(overrides)))


def sweep(verb: str, arguments: Sequence[str], job: Callable[[Any], None]) -> None:
    """Hand the command line to Hydra itself, for `--multirun`, its launchers and its other flags.

    Each job of a multirun gets a run folder of its own: its number is appended, and its run.json says what it was told.

    Raises:
        UserError: as of `compose`, or a multirun of a verb that creates no run folder.
    """
    if {"-m", "--multirun"} & set(arguments) and verb not in SWEPT:
        raise UserError(
            f"--multirun is of {', '.join(SWEPT)}, whose jobs get run folders of their own: call {verb} several times."
        )
    _refuse_blanks(verb, arguments)
    register()

    def run(config: DictConfig) -> None:
        here = HydraConfig.get()
        if here.mode is RunMode.MULTIRUN:
            config.run = f"{config.run}/{here.job.num}"
        try:
            with _in_one_sentence(verb):
                told = OmegaConf.to_object(config)
            job(told)
        except UserError as error:
            raise _PastHydra from error

    # Flags first: argparse takes the overrides as one unbroken list.
    ordered = sorted(arguments, key=lambda argument: not argument.startswith("-"))
    sys.argv = [f"sparse-circuits {verb}", *ordered, *QUIET]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its complaints, instead of printing them and exiting
    try:
        with _in_one_sentence(verb):
            hydra.main(version_base="1.3", config_path=f"pkg://{FOLDER}", config_name=verb)(run)()
    except _PastHydra as stop:
        raise stop.__cause__ from None


def _refuse_blanks(verb: str, arguments: Sequence[str]) -> None:
    """Stop at a path without a value, as `run=$UNSET` is, which would be the folder that one stands in."""
    for argument in arguments:
        key, blank = argument.removesuffix("="), argument.endswith("=")
        if blank and key in _keys(verb) and _node(verb, key)._metadata.ref_type is Path:
            raise UserError(f"{argument} names no path: write one behind the sign, or leave the setting out.")


class _PastHydra(BaseException):
    """Carries a user's mistake past Hydra, which would print an exception's whole stack."""


def register() -> None:
    """Make every verb's dataclass known to Hydra as `<verb>_schema`."""
    for verb, kind in VERBS.items():
        node = OmegaConf.structured(kind)
        _thaw(node)
        ConfigStore.instance().store(name=f"{verb}_schema", node=node)


def _thaw(node: Any) -> None:
    """Clear the read-only flag that frozen dataclasses put on their nodes: hydra-core 1.3 cannot merge into those."""
    OmegaConf.set_readonly(node, None)
    for key in node if OmegaConf.is_dict(node) else range(len(node)):
        child = node._get_node(key)
        if OmegaConf.is_config(child) and not child._is_none():
            _thaw(child)


@contextmanager
def _in_one_sentence(verb: str) -> Iterator[None]:
    """Raise what Hydra complains of as the user's mistake that it is."""
    try:
        yield
    except (HydraException, OmegaConfBaseException, FrozenInstanceError) as error:
        raise UserError(_one_sentence(error, verb)) from error
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        raise UserError(f"A preset is called by its name, not by a number: see sparse-circuits {verb} --help.") from error


def _one_sentence(error: Exception, verb: str) -> str:
    """Say in one sentence what Hydra says in many lines, and offer the nearest name."""
    text = f"{error} {error.__cause__ or ''}"
    if match := re.search(r"Could not find '(\w+)/([^']*)'", text):
        group, name = match.groups()
        presets = [path.stem for path in (Path(__file__).parent / group).glob("*.yaml")]
        return f'There is no {group} preset "{name}"{nearest(name, presets)}: choose one of {", ".join(sorted(presets))}.'
    if match := re.search(r"Could not override '([^']*)'|Key '(\w+)' (?:is )?not in|cannot assign to field '(\w+)'", text):
        key = next(each for each in match.groups() if each)
        if key in _keys(verb) and (inner := re.search(r"Key '(\w+)' (?:is )?not in", text)):
            known = _entry_fields(verb, key)
            return f'An entry of {key} has no "{inner[1]}"{nearest(inner[1], known)}: give {", ".join(known)}.'
        return f'{verb} has no setting "{key}"{nearest(key, _keys(verb))}: see sparse-circuits {verb} --help.'
    if match := re.search(r"Invalid value '([^']*)', expected one of \[([^]]*)\]", text):
        value, choices = match[1], match[2].split(", ")
        return f'"{value}" is no value of {_key(text)}{nearest(value, choices)}: choose one of {", ".join(choices)}.'
    if match := re.search(r"Value '([^']*)' of type '\w+' could not be converted to (\w+)", text):
        return f'{_key(text)} takes {KINDS.get(match[2], match[2])}, not "{match[1]}".'
    no_list = r"(?:Invalid value assigned: \w+ is not a ListConfig|Cannot merge DictConfig with ListConfig)"
    if match := re.search(rf"override (\S+?)=(.*?)\s+{no_list}", text):
        key, value = match.groups()
        if _key(text) != key:
            return f"{_key(text)} of an entry of {key} takes a list: write {_key(text)}:[...]."
        fields = _entry_fields(verb, key)
        entry = f"{{{fields[0]}:{value}}}" if fields and not value.startswith("{") else value
        return f"{key} takes a list, not \"{value}\": write '{key}=[{entry}]'."
    if match := re.search(r"is not a subclass of \w+\. value: (.*?)\s+full_key: (\S+)\[\d+\]", text):
        value, key = match.groups()
        entry = f"{{{_entry_fields(verb, key)[0]}:{value}}}"
        return f"An entry of {key} is a group of settings, not \"{value}\": write '{entry}'."
    if match := re.search(r"override (\S+?)=(.*?)\s+Invalid type assigned: \w+ is not a subclass", text):
        example = next(key for key in _keys(verb) if key.startswith(f"{match[1]}."))
        return f'{match[1]} is a group of settings, not "{match[2]}": give them one by one, such as {example}=...'
    return f"{' '.join(text.split())}: see sparse-circuits {verb} --help."


def _key(text: str) -> str:
    """Return the full name of the setting that OmegaConf complains about."""
    match = re.search(r"full_key: (\S+)", text)
    return match[1] if match else "this setting"


def _entry_fields(verb: str, key: str) -> Sequence[str]:
    """Return what can be given of an entry of a list of groups; nothing of a list of plain values."""
    return tuple(getattr(_node(verb, key)._metadata.element_type, "__dataclass_fields__", ()))


def _node(verb: str, key: str) -> Any:
    """Return OmegaConf's node of a setting."""
    *groups, name = key.split(".")
    return OmegaConf.select(OmegaConf.structured(VERBS[verb]), ".".join(groups))._get_node(name)  # one that is null, too


def _keys(verb: str) -> list[str]:
    """Return every setting of the verb, written as on the command line."""

    def walk(node: Any, prefix: str) -> list[str]:
        found = []
        for key in node:
            child = node._get_node(key)
            found.append(f"{prefix}{key}")
            if OmegaConf.is_dict(child) and not child._is_none():
                found += walk(child, f"{prefix}{key}.")
        return found

    return walk(OmegaConf.structured(VERBS[verb]), "")
