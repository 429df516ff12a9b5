"""The walk, verb by verb: each function takes the verb's config, does its work in a run folder, and says what it found.

Called by the command line; from Python the rooms themselves are as short to call.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from sparse_circuits.bridges import BridgeScores
from sparse_circuits.bridges.curve import SteeringCurves, draw_steering, steering_curves
from sparse_circuits.bridges.features import node_features
from sparse_circuits.bridges.load import load_bridged
from sparse_circuits.bridges.narrow import task_family
from sparse_circuits.bridges.table import bridge_table, feature_table, steering_table
from sparse_circuits.bridges.train import train_bridge
from sparse_circuits.circuits import Circuit, extract
from sparse_circuits.circuits.attack import run_attack
from sparse_circuits.circuits.attack_report import AttackReport, attack_table, attack_text
from sparse_circuits.conf.verbs import (
    DEFAULT_RUN,
    AttackVerb,
    BridgeVerb,
    DataVerb,
    ExportVerb,
    ExtractVerb,
    QuickstartVerb,
    ReportVerb,
    SteerVerb,
    TasksVerb,
    TrainVerb,
    VerifyVerb,
)
from sparse_circuits.data import DataConfig, Tokenizer, prepare, validation_batches
from sparse_circuits.data.words import Split
from sparse_circuits.errors import UserError
from sparse_circuits.interop import Format, export
from sparse_circuits.interop.hugging_face import CODE
from sparse_circuits.interop.verify import Difference, against_hugging_face, against_itself, compare, load_any
from sparse_circuits.model import Node, Transformer
from sparse_circuits.plain import from_plain, to_plain
from sparse_circuits.report import write_report
from sparse_circuits.run import rank, read_json, write_json
from sparse_circuits.subject import PRETRAINED, bigram_of, circuit_path, samples_of, subject_of
from sparse_circuits.summary import card_numbers, circuit_table, print_summary, print_verdicts, summarise
from sparse_circuits.tasks import (
    TASKS,
    Diagnosis,
    Task,
    Verdict,
    encode_pairs,
    examine,
    find_task,
    pairs_table,
    task_evaluator,
    verdict_table,
)
from sparse_circuits.training.config import TrainConfig
from sparse_circuits.training.export import Trained
from sparse_circuits.training.loop import Metrics
from sparse_circuits.training.pretrain import MakeEvaluator, pretrain

EXAMPLE = "single_double_quote"


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
            f"nonzero ({found['l0_fraction']:.4f}; bigram table apart), model in {config.run / 'model'}"
        )
    return trained


def evaluate_tasks(tasks: Sequence[Task], console: Console, *, all_or_none: bool) -> MakeEvaluator:
    """Return what prepares the tasks' evaluation for the training loop.

    Args:
        all_or_none: whether a task that does not fit the corpus's tokenizer stops the run, or is named and left out.
    """

    def skip(error: UserError) -> None:
        console.print(f"[dim]{error}[/dim]")

    def make(model: Transformer, tokenizer: Tokenizer) -> Callable[[], Metrics]:
        n_ctx, device = model.config.n_ctx, model.embed.weight.device
        on_unfit = None if all_or_none else skip
        evaluator = task_evaluator(tasks, tokenizer, max_tokens=n_ctx, device=device, on_unfit=on_unfit)
        return lambda: evaluator(model)

    return make


def tasks(config: TasksVerb, console: Console) -> list[Diagnosis]:
    """Examine tasks and print the doctor's table."""
    if [config.run, config.checkpoint, config.tokenizer].count(None) != 2:
        raise UserError(
            "Say what to examine: run=RUN_FOLDER or checkpoint=pretrained:NAME for its model and tokenizer, or"
            " tokenizer=tokenizer.json alone."
        )
    model = None
    if config.tokenizer:
        tokenizer = Tokenizer.load(config.tokenizer)
    else:
        subject = subject_of(config.run or DEFAULT_RUN, config.checkpoint)
        model, tokenizer = subject.model, subject.tokenizer
    diagnoses = examine(
        find_tasks(config.tasks),
        tokenizer,
        model=model,
        bigram=bigram_of(model),
        split=config.split,
        n_pairs=config.n_pairs,
        seed=config.seed,
        max_tokens=model.config.n_ctx if model else None,
    )
    console.print(pairs_table(diagnoses))
    console.print(verdict_table(diagnoses))
    if config.run:
        write_json(config.run / "tasks.json", [diagnosis.to_dict() for diagnosis in diagnoses])
    return diagnoses


def find_tasks(references: Sequence[str]) -> list[Task]:
    """Return the tasks that the references name, `all` standing for the twenty."""
    return [task for name in references for task in (TASKS.values() if name == "all" else [find_task(name)])]


def extract_circuits(config: ExtractVerb, console: Console) -> list[Circuit]:
    """Extract the circuits of tasks; with keep_going, one that cannot be extracted is named with the reason and left out."""
    subject = subject_of(config.run, config.checkpoint)
    means = subject.means()
    circuits = []
    for task in find_tasks([config.task] if config.task else config.tasks):
        path = circuit_path(subject.folder, task.name)
        try:
            if config.overwrite or not path.exists():
                console.print(f"extracting {task.name} ...")
                storage = subject.folder / "tuning" / f"{task.name}.sqlite"
                extract(subject.model, task, subject.tokenizer, means, config=config.extract, storage=storage).save(path)
            circuits.append(Circuit.load(path))
        except UserError as error:
            if not config.keep_going:
                raise
            console.print(f"[dim]{error}[/dim]")
    rows = [{"name": circuit.task.name, **card_numbers(circuit)} for circuit in circuits]
    console.print(circuit_table(rows))
    print_verdicts(rows, console)
    return circuits


def attack(config: AttackVerb, console: Console) -> list[AttackReport]:
    """Attack a run's model with its circuits, and print and keep what came of it."""
    reports = []
    for task in tasks_with_circuit(config.run, config.tasks):
        found = run_attack(Circuit.load(circuit_path(config.run, task.name)), task, config=config.attack)
        write_json(config.run / "attacks" / f"{task.name}.json", to_plain(found))
        console.print(attack_table(found))
        console.print(attack_text(found), markup=False, highlight=False, soft_wrap=True)
        reports.append(found)
    return reports


def export_circuits(config: ExportVerb, console: Console) -> list[Path]:
    """Write a run's circuits in another format, and print where they are."""
    names = {Format.python: "{}.py", Format.circuit_tracer: "circuit_tracer/{}.json"}
    written = []
    for task in tasks_with_circuit(config.run, config.tasks):
        path = config.run / "exports" / names.get(config.to, f"{{}}.{config.to.name}").format(task.name)
        written += export(Circuit.load(circuit_path(config.run, task.name)), config.to, path)
    written = list(dict.fromkeys(written))
    console.print("\n".join(map(str, written)), soft_wrap=True)
    return written


def tasks_with_circuit(run: Path, references: Sequence[str]) -> list[Task]:
    """Return the tasks that the references name, `all` standing for those of the twenty that the run has a circuit of.

    Raises:
        UserError: there are none.
    """
    chosen = find_tasks(references)
    if "all" in references:
        chosen = [task for task in chosen if circuit_path(run, task.name).exists()]
    if not chosen:
        raise UserError(f"{run} holds no circuit of the twenty tasks: extract some, or name others in tasks.")
    return chosen


def bridge(config: BridgeVerb, console: Console) -> BridgeScores:
    """Train a bridge into its run folder, and print what it carries."""
    if not config.dense:
        raise UserError("Say what to bridge to: dense=RUN_FOLDER, or a folder or hub name of Hugging Face's.")
    settings = {name: getattr(config, name) for name in TrainConfig.__dataclass_fields__}
    if config.task_family:
        settings["data"] = task_family(config.data, find_tasks(config.task_family), config.run)
    start = None
    if config.checkpoint:
        subject = subject_of(config.run, config.checkpoint)
        start = Trained(subject.model, subject.tokenizer)
    _, scores = train_bridge(
        TrainConfig(**settings),
        config.run,
        dense=config.dense,
        bridge=config.bridge,
        start=start,
        resume=config.resume,
        console=console if rank() == 0 else None,
    )
    if rank() == 0:
        console.print(bridge_table(scores))
    return scores


def steer(config: SteerVerb, console: Console) -> SteeringCurves:
    """Steer the dense model of a bridge, and print and keep the curves."""
    bridged, (task,) = load_bridged(config.run), find_tasks([config.task])
    model, settings = bridged.sparse, config.steer
    nodes = [Node.parse(node) for node in config.nodes] or circuit_inputs(config.run, task)
    batch = encode_pairs(
        task,
        bridged.tokenizer,
        split=Split.held_out,
        n_pairs=settings.n_pairs,
        seed=settings.seed,
        max_tokens=model.config.n_ctx,
    )
    dataset = prepare(from_plain(DataConfig, read_json(config.run / "run.json")["config"]["data"]))
    n_rows = max(1, settings.n_reference_tokens // model.config.n_ctx)
    (rows,) = validation_batches(dataset.validation, batch_size=n_rows, n_ctx=model.config.n_ctx, n_batches=1)
    found = steering_curves(bridged, nodes, batch, rows[:, :-1], task=task.name, config=settings)
    features = node_features(bridged, nodes, rows[:, :-1])
    console.print(steering_table(found))
    console.print(feature_table(features))
    if any(not 0 <= strength <= 1 for strength in settings.strengths):
        console.print("[dim]Strengths below 0 or above 1 push further than the other prompt does.[/dim]")
    path = config.run / "steering" / f"{task.name}.json"
    write_json(path, {**to_plain(found), "features": to_plain(features)})
    draw_steering(found, path.with_suffix(".png"))
    console.print(f"curves: {path}, {path.with_suffix('.png')}", soft_wrap=True)
    return found


def circuit_inputs(run: Path, task: Task) -> list[Node]:
    """Return the nodes of a run's circuit that sublayers read, which bridges lead from.

    Raises:
        UserError: the run has no circuit of the task, or it has no such node.
    """
    path = circuit_path(run, task.name)
    if not path.exists():
        raise UserError(
            f"{run} holds no circuit of {task.name}: extract it (sparse-circuits extract run={run} task={task.name}), or give"
            " nodes."
        )
    circuit = Circuit.load(path)
    read = [Node(site, channel) for site, channels in circuit.nodes.items() if site.endswith("act_in") for channel in channels]
    found = [node for node in read if node.channel < circuit.model.config.d_model]  # behind them are positions
    if not found:
        raise UserError(f"The circuit of {task.name} has no node at an act_in site, where bridges lead from: give nodes.")
    return found


def verify(config: VerifyVerb, console: Console) -> Difference:
    """Compare a model with another, or with itself in float64, and print where they differ."""
    if not config.checkpoint:
        raise UserError("Say what to verify: checkpoint=pretrained:NAME, a run folder, or a folder of another project's.")
    model = any_model(config.checkpoint)
    generator = torch.Generator().manual_seed(config.seed)
    tokens = torch.randint(model.d_vocab, (config.n_rows, model.config.n_ctx), generator=generator)
    if config.against is None:
        found = against_itself(model, tokens)
    elif (Path(config.against) / CODE).exists():
        found = against_hugging_face(model, Path(config.against), tokens)
    else:
        found = compare(model, any_model(config.against), tokens)
    table = Table(title=f"{config.checkpoint} against {config.against or 'itself in float64'}")
    table.add_column("site")
    table.add_column("largest difference", justify="right")
    for site, difference in {**found.sites, "logits": found.logits}.items():
        table.add_row(site, f"{difference:.2e}")
    console.print(table)
    return found


def any_model(place: str) -> Transformer:
    """Return a model of ours: one that comes with the package, or of whatever folder."""
    return subject_of(DEFAULT_RUN, place).model if place.startswith(PRETRAINED) else load_any(place)


def report(config: ReportVerb, console: Console) -> Path:
    """Write a run's page and print where it is."""
    path = write_report(config.run, samples=samples_of(config.run))
    console.print(f"report: {path}")
    return path


def quickstart(config: QuickstartVerb, console: Console) -> dict[str, Any]:
    """Walk the whole way in one run folder; a finished walk prints its summary again, an interrupted one goes on."""
    path = config.run / "summary.json"
    if not path.exists():
        started = time.monotonic()
        trained = train(replace(config, resume=True), console)
        diagnoses = tasks(TasksVerb(run=config.run, split=Split.validation), console)
        circuits = extract_known(trained, diagnoses, config=config, console=console)
        summary = {"seconds": time.monotonic() - started, **summarise(config, diagnoses, circuits)}
        write_json(path, summary)
        write_report(config.run, samples=samples_of(config.run))
    summary = read_json(path)
    print_summary(summary, console)
    console.print(f"{summary['seconds']:.0f} seconds; report: {config.run / 'report.html'}")
    return summary


def extract_known(
    trained: Trained, diagnoses: Sequence[Diagnosis], *, config: QuickstartVerb, console: Console
) -> dict[str, Circuit]:
    """Extract circuits for the tasks that the model knows, the example first, then the best known, up to `n_circuits`."""
    known = [diagnosis for diagnosis in diagnoses if diagnosis.verdict is Verdict.known]
    known.sort(key=lambda diagnosis: (diagnosis.task != EXAMPLE, diagnosis.evaluation.loss))
    chosen = [diagnosis.task for diagnosis in known[: config.n_circuits]]
    verb = ExtractVerb(run=config.run, tasks=chosen, extract=config.extract, keep_going=True)
    return {circuit.task.name: circuit for circuit in extract_circuits(verb, console)}
