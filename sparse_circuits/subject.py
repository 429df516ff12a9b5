"""What a verb works on: the model of a run folder or one that comes with the package, and where its circuits are kept."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Int
from torch import Tensor

from sparse_circuits.circuits import Means, load_means, measure_means, save_means
from sparse_circuits.circuits.means import MEANS_FILE, load_sample
from sparse_circuits.conf.verbs import DEFAULT_RUN
from sparse_circuits.data import DataConfig, Dataset, Loader, Tokenizer, check_corpus, prepare, validation_batches
from sparse_circuits.model import Transformer
from sparse_circuits.plain import from_plain
from sparse_circuits.pretrained import load_pretrained, pretrained_names
from sparse_circuits.run import read_json
from sparse_circuits.training.export import Trained, load_trained

PRETRAINED = "pretrained:"
MEANS_TOKENS = 200_000


class Subject(NamedTuple):
    """A model that verbs work on, and the folder that they write to."""

    folder: Path
    model: Transformer
    tokenizer: Tokenizer
    means: Callable[[], Means]
    """Its mean activations; measured when they are first asked for."""


def subject_of(run: Path, checkpoint: str | None) -> Subject:
    """Return the model of a run folder, of another, or one that comes with the package (`pretrained:NAME`).

    Raises:
        UserError: there is no such model.
    """
    if checkpoint and checkpoint.startswith(PRETRAINED):
        name = checkpoint.removeprefix(PRETRAINED)
        pretrained = load_pretrained(name)
        folder = DEFAULT_RUN.with_name(name) if run == DEFAULT_RUN else run
        return Subject(folder, pretrained.model, pretrained.tokenizer, lambda: pretrained.means)
    source = Path(checkpoint) if checkpoint else run
    trained = load_trained(source)
    return Subject(run, trained.model, trained.tokenizer, partial(means_of, source, trained.model))


def corpus_of(run: Path) -> Dataset:
    """Return the corpus that a run's model was trained on.

    Raises:
        UserError: a source is not to be had, or gives another corpus by now.
    """
    dataset = prepare(from_plain(DataConfig, read_json(run / "run.json")["config"]["data"]))
    check_corpus(run, dataset)
    return dataset


def means_of(run: Path, model: Transformer) -> Means:
    """Return the mean activations of a run's model, measured once over its training tokens and kept.

    Raises:
        UserError: as of `corpus_of`.
    """
    path = run / MEANS_FILE
    if path.exists():
        return load_means(path, model)
    dataset = corpus_of(run)
    batches = Loader(dataset.train, batch_size=32, n_ctx=model.config.n_ctx, seed=0)
    means = measure_means(model, batches, n_tokens=MEANS_TOKENS)
    save_means(means, path)
    return means


def model_of_circuits(run: Path, checkpoint: str | None, hashes: Collection[str]) -> Trained | None:
    """Return the whole model of a folder's circuits, as far as it can be found.

    Args:
        run: the folder; its own model, where it has one, comes first.
        checkpoint: where the model is instead: another run folder, or `pretrained:NAME`.
        hashes: of the models that the circuits were found in; one that comes with the package is known by it.

    Raises:
        UserError: there is no model at `checkpoint`, or the run's is damaged.
    """
    if checkpoint:
        subject = subject_of(run, checkpoint)
        return Trained(subject.model, subject.tokenizer)
    if (run / "model").is_dir():
        return load_trained(run)
    pretrained = (load_pretrained(name) for name in pretrained_names())
    return next((Trained(each.model, each.tokenizer) for each in pretrained if each.means.model_hash in hashes), None)


def validation_rows(run: Path, *, n_tokens: int, n_ctx: int) -> Int[Tensor, "n_rows pos"]:
    """Return ordinary text of a run's corpus, about so many tokens of it.

    Raises:
        UserError: as of `corpus_of`, or the corpus is too small.
    """
    dataset = corpus_of(run)
    (rows,) = validation_batches(dataset.validation, batch_size=max(1, n_tokens // n_ctx), n_ctx=n_ctx, n_batches=1)
    return rows[:, :-1]


def samples_of(run: Path) -> dict[str, Tensor]:
    """Return tokens that a run's model was trained on, by its hash; of a folder without means, those of the models that ship.

    Raises:
        UserError: the run's means are damaged.
    """
    if (run / MEANS_FILE).exists():
        return load_sample(run / MEANS_FILE)
    means = [load_pretrained(name).means for name in pretrained_names()]
    return {each.model_hash: each.sample for each in means if each.sample is not None}


def bigram_of(model: Transformer | None) -> Any:
    """Return what a token's bigram row alone would answer, if the model has such a table."""
    return None if model is None or model.bigram is None else lambda ids: model.bigram[ids]


def circuit_path(run: Path, task: str) -> Path:
    """Return the file of a task's circuit."""
    return run / "circuits" / f"{task}.safetensors"
