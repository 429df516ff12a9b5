"""Hydra's door: presets, overrides, and one sentence for every mistake."""

import re
from pathlib import Path

import pytest
import torch

from sparse_circuits.conf import compose
from sparse_circuits.conf.help import verb_help
from sparse_circuits.conf.verbs import VERBS
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.sparsity import sparse_budgets
from sparse_circuits.training.track import Tracker

CONF = Path(__file__).parents[2] / "conf"


def test_presets_and_overrides() -> None:
    config = compose("train", ["model=small", "l0_fraction=0.03", "track=wandb", "model.positions=added"])
    assert (config.model.d_model, config.model.n_layers) == (256, 4)
    assert config.sparsity.l0_fraction == 0.03
    assert config.track is Tracker.wandb
    assert config.model.positions.name == "added"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_composes_and_its_help_names_every_setting(verb: str) -> None:
    config = compose(verb)
    assert isinstance(config, VERBS[verb])
    text = verb_help(verb)
    for field in VERBS[verb].__dataclass_fields__:
        assert f"  {field}" in text, field


@pytest.mark.parametrize("verb", VERBS)
def test_what_help_prints_is_what_the_verb_composes(verb: str) -> None:
    printed = re.findall(r"^  (\S+=.*)$", verb_help(verb), re.M)
    assert compose(verb, printed) == compose(verb)


def test_help_lists_presets_with_the_one_that_is_taken() -> None:
    for verb, preset in (("train", "model=tiny"), ("bridge", "sparsity=fraction"), ("dit", "adapter=paper")):
        assert re.search(rf"^  {preset}\n      preset of .*: .*{preset.split('=')[1]}", verb_help(verb), re.M)


@pytest.mark.parametrize(
    ("verb", "override", "says"),
    [
        ("train", "model=smal", 'no model preset "smal" (did you mean "small"?)'),
        ("train", "l0_fractio=1", 'no setting "l0_fractio" (did you mean "l0_fraction"?)'),
        ("train", "model.n_layer=3", 'no setting "model.n_layer" (did you mean "model.n_layers"?)'),
        ("train", "data.sources=[{kidn:stdlib}]", 'An entry of data.sources has no "kidn" (did you mean "kind"?)'),
        ("train", "track=wandbb", '"wandbb" is no value of track (did you mean "wandb"?)'),
        ("train", "sparsity.anneal=exponential", "choose one of linear, power_law, none"),
        ("train", "l0_fraction=abc", 'l0_fraction takes a number, not "abc"'),
        ("train", "n_tokens=1.5", 'n_tokens takes a whole number, not "1.5"'),
        ("train", "model.d_model=20", "does not divide d_model = 20"),
        ("train", "l0_fraction=-1", "give a share above 0"),
        ("train", "+foo=3", 'train has no setting "foo"'),
        ("train", "run=", "run= names no path"),
        ("train", "model=3", "A preset is called by its name"),
        ("quickstart", "n_circuits=-1", "n_circuits is -1"),
        ("embed", "finetunes=[a]", "An entry of finetunes is a group of settings, not \"a\": write '{place:a}'"),
        ("data", "sources=[{kind:files,paths:a}]", "paths of an entry of sources takes a list: write paths:[...]"),
        (
            "extract",
            "extract.tune=quick",
            'extract.tune is a group of settings, not "quick": give them one by one, such as extract.tune.',
        ),
        ("tasks", "split=heldout", 'did you mean "held_out"?'),
        ("tasks", "n_pairs=0", "n_pairs is 0: give at least 1"),
        ("verify", "n_rows=0", "n_rows is 0: give at least 1"),
        ("diff", "n_largest=-1", "n_largest is -1: give at least 1"),
        ("dit", "n_tokens=0", "n_tokens is 0: give at least 1"),
        ("ask", "n_likelier=0", "n_likelier is 0: give at least 1"),
    ],
)
def test_a_mistake_is_one_sentence(verb: str, override: str, says: str) -> None:
    with pytest.raises(UserError) as error:
        compose(verb, [override])
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("verb", "override", "instead"),
    [
        ("train", "data.sources=stdlib", "data.sources=[{kind:stdlib}]"),
        ("train", "data.sources={kind:stdlib}", "data.sources=[{kind:stdlib}]"),
        ("embed", "finetunes=a", "finetunes=[{place:a}]"),
        ("steer", "steer.strengths=1", "steer.strengths=[1]"),
        ("extract", "extract.card.controls=coin", "extract.card.controls=[coin]"),
    ],
)
def test_what_is_said_to_write_for_a_list_composes(verb: str, override: str, instead: str) -> None:
    with pytest.raises(UserError, match=re.escape(f"write '{instead}'.")):
        compose(verb, [override])
    compose(verb, [instead])


def counts(*overrides: str) -> tuple[int, int]:
    """Parameters beside the bigram table, and nonzero weights, of a preset, without storage."""
    config = compose("train", overrides)
    with torch.device("meta"):
        model = Transformer(config.model, d_vocab=2048)
    n_parameters = sum(p.numel() for name, p in model.named_parameters() if name != "bigram")
    return n_parameters, sum(budget.target for budget in sparse_budgets(model, config.sparsity).values())


@pytest.mark.parametrize("preset", ["tiny", "small", "medium", "paper"])
def test_a_model_preset_states_its_counts(preset: str) -> None:
    n_parameters, n_nonzero = counts(f"model={preset}")
    first_line = (CONF / "model" / f"{preset}.yaml").read_text().split("\n")[0]
    assert first_line.startswith(f"# {n_parameters:,} parameters (a bigram table over 2,048 ids adds {2048**2:,}), ")
    assert first_line.endswith(f" {n_nonzero:,} nonzero weights at l0_fraction 1/16.")


@pytest.mark.parametrize("path", sorted((CONF / "sparsity").glob("paper_*.yaml")), ids=lambda path: path.stem)
def test_a_budget_of_the_paper_states_its_count(path: Path) -> None:
    _, n_nonzero = counts("model=paper", f"sparsity={path.stem}")
    stated = int(path.read_text().split(" ")[1].replace(",", ""))
    assert abs(n_nonzero - stated) < 100


def test_the_papers_smallest_budget_needs_the_lower_floor() -> None:
    with pytest.raises(UserError, match=r"lower sparsity\.floor"):
        counts("model=paper", "sparsity=paper_0_9m", "sparsity.floor=4")
