"""From text to a trained model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from sparse_circuits.conf.verbs import DataVerb, TrainVerb
from sparse_circuits.data import Tokenizer, prepare
from sparse_circuits.errors import UserError
from sparse_circuits.model import Transformer
from sparse_circuits.run import rank, read_json
from sparse_circuits.summary import print_aside
from sparse_circuits.tasks import Task, task_evaluator
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.export import Trained
from sparse_circuits.training.loop import Metrics
from sparse_circuits.training.pretrain import MakeEvaluator, pretrain
from sparse_circuits.walk.tasks import find_tasks


def data(config: DataVerb, console: Console) -> None:
    """Prepare the corpus and print what is in it."""
    dataset = prepare(config)
    table = Table(title=f"corpus {dataset.hash[:12]} in {dataset.folder}")
    for name in ("source", "documents", "training tokens", "validation tokens", "licence"):
        table.add_column(name)
    for title, source in dataset.manifest["sources"].items():
        counts = [source["train"], source["validation"]]
        documents = sum(each["n_documents"] for each in counts)
        tokens = [f"{each['n_tokens']:,}" for each in counts]
        table.add_row(title, f"{documents:,}", *tokens, source["licence"])
    console.print(table)
    console.print(f"{len(dataset.train):,} training tokens, vocabulary of {dataset.tokenizer.d_vocab:,}")


def train(config: TrainVerb, console: Console) -> Trained:
    """Train a model into its run folder."""
    tasks = find_tasks(config.tasks)
    settings = {name: getattr(config, name) for name in TrainConfig.__dataclass_fields__}
    trained = pretrain(
        TrainConfig(**settings),
        config.run,
        resume=config.resume,
        evaluators=[evaluate_tasks(tasks, console, all_or_none="all" not in config.tasks)] if tasks else [],
        console=console if rank() == 0 else None,
    )
    if rank() == 0:
        found = read_json(config.run / "model.json")
        console.print(
            f"validation loss {found['validation_loss']:.3f} nats, {found['n_nonzero']:,} of {found['n_entries']:,} weights "
            f"nonzero ({found['l0_fraction']:.4f}; bigram table apart), model in {config.run / 'model'}",
            soft_wrap=True,
            markup=False,
        )
    return trained


def evaluate_tasks(tasks: Sequence[Task], console: Console, *, all_or_none: bool) -> MakeEvaluator:
    """Return what prepares the tasks' evaluation for the training loop.

    Args:
        all_or_none: whether a task that does not fit the corpus's tokenizer stops the run, or is named and left out.
    """

    def skip(error: UserError) -> None:
        print_aside(error, console)

    def make(model: Transformer, tokenizer: Tokenizer) -> Callable[[], Metrics]:
        n_ctx, device = model.config.n_ctx, model.embed.weight.device
        on_unfit = None if all_or_none else skip
        evaluator = task_evaluator(tasks, tokenizer, max_tokens=n_ctx, device=device, on_unfit=on_unfit)
        return lambda: evaluator(model)

    return make
