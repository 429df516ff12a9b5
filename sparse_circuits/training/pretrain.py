"""Pretraining from config to exported model: data, model, step, loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from rich.console import Console

from sparse_circuits.data import Dataset, Loader, Tokenizer, check_corpus, prepare, validation_batches
from sparse_circuits.errors import UserError
from sparse_circuits.kernels.backend import use_backend
from sparse_circuits.model import Transformer
from sparse_circuits.plain import to_plain
from sparse_circuits.run import (
    Autocast,
    alone_in,
    check_run_folder,
    choose_autocast,
    choose_backend,
    choose_device,
    explanation,
    process_group,
    rank,
    world_size,
    write_json,
)
from sparse_circuits.sparsity import sparse_budgets
from sparse_circuits.sparsity.measure import dead_fractions, l0_of
from sparse_circuits.training.checkpoint import CheckpointFolder, Resumable
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.curves import draw_curves
from sparse_circuits.training.device_check import check_device
from sparse_circuits.training.evaluate import validation_loss
from sparse_circuits.training.export import Trained, export_model
from sparse_circuits.training.fixed_support import FixedSupportStep
from sparse_circuits.training.loop import Metrics, Step, fit
from sparse_circuits.training.step import Diverged, PretrainStep
from sparse_circuits.training.track import Jsonl, ProgressLine, Tracker, Tracks, Wandb, read_metrics

MakeEvaluator = Callable[[Transformer, Tokenizer], Callable[[], Metrics]]
"""Prepares something to measure of the model while it trains, such as the tasks, and refuses before training what cannot be."""


@runtime_checkable
class TrainStep(Step, Resumable, Protocol):
    """A step that trains a model."""

    model: Transformer
    autocast: Autocast


Begin = Callable[[TrainConfig, int, torch.device], TrainStep]
"""From the config, the tokenizer's ids and the device to the step that a run is made of."""


def pretrain(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    evaluators: Sequence[MakeEvaluator] = (),
    begin: Begin | None = None,
    begun_with: Mapping[str, Any] | None = None,
    console: Console | None = None,
) -> Trained:
    """Train a weight-sparse transformer into a run folder and return it.

    Args:
        config: everything about the run.
        folder: the run folder; it will hold run.json, metrics.jsonl, curves.png, checkpoints/ and model/.
        resume: go on with the run that the folder holds.
        evaluators: measured beside the validation loss.
        begin: makes the step to train with, and with it the model; None: a fresh model that learns the next token.
        begun_with: settings of `begin` by name, recorded beside the config's and, when the run is resumed, compared like them.
        console: where the progress line goes; None: nowhere.

    Raises:
        UserError: a setting, a corpus or a checkpoint is wrong; a setting is refused before any work.
        Interrupted: after Ctrl-C or SIGTERM, when the run has been saved.
    """
    settings = to_plain(config) | to_plain(dict(begun_with or {}))
    with process_group():
        if rank() == 0:
            check_run_folder(folder, config=settings, resume=resume)
        check_budgets(config)
        device = choose_device(config.device)
        backend = choose_backend(config.backend, device)
        dataset = prepare(config.data)
        check_corpus(folder, dataset)
        torch.manual_seed(config.seed)
        step = (begin or begin_pretraining)(config, dataset.tokenizer.d_vocab, device)
        if device.type == "mps":
            check_device(step.model, device)
        loader = Loader(
            dataset.train,
            batch_size=config.batch_size,
            n_ctx=config.model.n_ctx,
            seed=config.seed,
            rank=rank(),
            world_size=world_size(),
        )
        validation = list(
            validation_batches(
                dataset.validation,
                batch_size=config.batch_size,
                n_ctx=config.model.n_ctx,
                n_batches=config.evaluation_batches,
            )
        )
        if console:
            console.print(f"training on {device.type}, kernels: {backend.name}", soft_wrap=True)
        with use_backend(backend):
            measures = [make(step.model, dataset.tokenizer) for make in evaluators]
            said = explanation(folder, config=settings, device=device, backend=backend)
            with alone_in(folder):
                _run(step, loader, validation, measures, said, config=config, folder=folder, dataset=dataset, console=console)
        return Trained(step.model.eval().requires_grad_(False), dataset.tokenizer)


def begin_pretraining(config: TrainConfig, d_vocab: int, device: torch.device) -> TrainStep:
    """Return the step that pretrains a fresh model."""
    model = Transformer(config.model, d_vocab=d_vocab).to(device)
    kind = PretrainStep if config.sparsity.support_every == 1 else FixedSupportStep
    return kind(model, config, autocast=choose_autocast(config.precision, device))


def check_budgets(config: TrainConfig) -> None:
    """Refuse budgets below their floor before the data are prepared, on a model without storage."""
    with torch.device("meta"):
        sparse_budgets(Transformer(config.model, d_vocab=config.data.d_vocab), config.sparsity)


def _run(
    step: TrainStep,
    loader: Loader,
    validation: list[torch.Tensor],
    measures: Sequence[Callable[[], Metrics]],
    said: dict[str, Any],
    *,
    config: TrainConfig,
    folder: Path,
    dataset: Dataset,
    console: Console | None,
) -> None:
    """Fit and, in the first process, write what the run leaves behind."""

    def evaluate() -> Metrics:
        found = {"validation_loss": validation_loss(step.model, validation, autocast=step.autocast)}
        for measure in measures:
            found |= measure()
        return found

    first = rank() == 0
    tracks = _open_tracks(config, folder, said, console=console) if first else None
    checkpoints = CheckpointFolder(
        folder / "checkpoints", every=config.checkpoint_every, keep=config.keep_checkpoints, writes=first
    )
    try:
        if first:  # only now, so that nothing refused leaves a run behind
            write_json(folder / "run.json", said)
            write_json(folder / "data.json", dataset.manifest)
        fit(
            step,
            loader,
            n_steps=config.n_steps,
            track=tracks,
            evaluate=evaluate,
            evaluate_every=config.evaluate_every,
            checkpoints=checkpoints,
        )
    except Diverged as error:
        last = checkpoints.files()[-1:] or ["none yet"]
        raise UserError(f"{error} Last good checkpoint: {last[0]}.") from error
    finally:
        if tracks:
            tracks.close()
    if first:
        export_model(step.model, dataset.tokenizer, folder)
        draw_curves(read_metrics(folder / "metrics.jsonl"), folder / "curves.png")
        write_json(folder / "model.json", summary(step.model, validation, autocast=step.autocast))


def summary(model: Transformer, validation: list[torch.Tensor], *, autocast: Autocast) -> dict[str, object]:
    """Return what is worth knowing of a finished model: validation loss, nonzeros, dead channels."""
    l0 = l0_of(model)
    with torch.no_grad(), autocast():
        device = model.embed.weight.device
        dead = dead_fractions(model, (batch[:, :-1].to(device) for batch in validation))
    loss = validation_loss(model, validation, autocast=autocast)
    return {
        "validation_loss": loss,
        "n_nonzero": l0.nonzero,
        "n_entries": l0.total,
        "l0_fraction": l0.fraction,
        "dead_fraction": dead,
    }


def _open_tracks(config: TrainConfig, folder: Path, said: dict[str, Any], *, console: Console | None) -> Tracks:
    tracks = [Jsonl(folder / "metrics.jsonl", every=config.log_every)]
    if config.track is not Tracker.jsonl:
        tracks.append(Wandb(folder, every=config.log_every, config=said, offline=config.track is Tracker.wandb_offline))
    if console is not None:
        tracks.append(ProgressLine(n_steps=config.n_steps, tokens_per_step=config.tokens_per_step, console=console))
    return Tracks(tracks)
