"""Finetunes that say what they have learned: the adapter, and one finetune asked through it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sparse_circuits.conf.verbs import AskVerb, DitVerb
from sparse_circuits.diffs import Lesson, WeightDiff, ask, logit_difference, train_adapter
from sparse_circuits.diffs.apply import check_fits
from sparse_circuits.diffs.certify import Examiner
from sparse_circuits.diffs.chat import Chat, Plain, load_chat
from sparse_circuits.diffs.confidence import Calibration, Confidence, shuffled
from sparse_circuits.diffs.examine import SCORES_FILE, Row, examine
from sparse_circuits.diffs.judges import judge_of
from sparse_circuits.diffs.labelled import Samples, split_by_label
from sparse_circuits.diffs.store import Part
from sparse_circuits.diffs.weight_diff import named
from sparse_circuits.errors import UserError
from sparse_circuits.interop.finetunes import load_finetune
from sparse_circuits.interop.pools import read_pool
from sparse_circuits.kernels.backend import Backend
from sparse_circuits.model import Transformer
from sparse_circuits.model.dense import Dense
from sparse_circuits.plain import to_plain
from sparse_circuits.run import Device, check_run_folder, choose_backend, choose_device, explanation, read_json, write_json
from sparse_circuits.summary import print_aside
from sparse_circuits.training.checkpoint import CheckpointFolder
from sparse_circuits.training.track import Jsonl, ProgressLine, Tracks
from sparse_circuits.walk.diffs import Base, load_base

ADAPTER_FILE, CONFIDENCE_FILE = "adapter.safetensors", "confidence.json"


class Asked(NamedTuple):
    """A base that can be asked in words."""

    model: Dense
    chat: Chat
    base: Base


def asked(place: str, device: Device) -> Asked:
    """Load a base with the way it is asked."""
    base = load_base(place)
    model, tokenizer = base.loaded
    chat = Plain(tokenizer) if isinstance(model, Transformer) else load_chat(place, tokenizer)
    return Asked(model.to(choose_device(device)), chat, base)


def dit(config: DitVerb, console: Console) -> list[Row]:
    """Train an adapter on a pool of labelled finetunes, and print what it says of those held out."""
    if config.pool is None:
        raise UserError("Say which finetunes: pool=FOLDER of a store, a .jsonl of places and labels, or a released index.csv.")
    settings = to_plain(config)
    del settings["resume"], settings["judge"]  # one that failed may be replaced
    check_run_folder(config.run, config=settings, resume=config.resume)
    model, chat, base = asked(config.base, config.device)
    found = read_pool(config.pool, base.loaded, of=base.name, label=config.label, store=config.run / "released")
    pool = split_by_label(found, seed=config.seed)
    parts = {part: Samples([own for own in pool if own.part is part], chat, config.question) for part in Part}
    judge, device = judge_of(config.judge, kept=config.run / "judged.jsonl"), choose_device(config.device)
    said = explanation(config.run, config=settings, device=device, backend=choose_backend(Backend.auto, device))
    write_json(config.run / "run.json", said)

    adapter = _train(config, model, chat, parts, base=base.name, console=console)
    adapter.save(config.run / ADAPTER_FILE)
    test = [own.load() for own in parts[Part.test].pool]
    rows = examine(
        model,
        test,
        [own.label for own in parts[Part.test].pool],
        adapter=adapter,
        chat=chat,
        question=config.question,
        judge=judge,
        n_tokens=config.n_tokens,
    )
    console.print(score_table(rows, n=len(test)))
    wordings = [config.question, *config.wordings]
    examiner = Examiner(model, chat, adapter, wordings=wordings, n_tokens=config.n_tokens)
    sure = None if config.nothing is None else _certify(examiner, parts, config, console)
    scores = {
        "question": config.question,
        "labels": [own.label for own in parts[Part.test].pool],
        "rows": [row._asdict() for row in rows],
        "judge": to_plain(config.judge),
        "confidence": sure
        and {
            "coverage": sure.coverage.tolist(),
            "accuracy": sure.accuracy.tolist(),
            "expected_error": sure.expected_error,
        },
    }
    write_json(config.run / SCORES_FILE, scores)
    console.print(f"adapter: {config.run / ADAPTER_FILE}", soft_wrap=True)
    return rows


def _train(config: DitVerb, model: Dense, chat: Chat, parts: dict[Part, Samples], *, base: str, console: Console) -> WeightDiff:
    per_epoch = config.adapter.per_epoch(len(parts[Part.train]), is_told=config.nothing is not None)
    n_steps = config.adapter.n_epochs * per_epoch
    tracks = Tracks([Jsonl(config.run / "metrics.jsonl", every=10), ProgressLine(n_steps=n_steps, console=console)])
    try:
        return train_adapter(
            model,
            parts[Part.train],
            base=base,
            nothing=None if config.nothing is None else chat.lesson(config.question, config.nothing),
            validation=parts[Part.validation],
            config=config.adapter,
            track=tracks,
            checkpoints=CheckpointFolder(config.run / "checkpoints", every=config.checkpoint_every, keep=1),
        )
    finally:
        tracks.close()


def score_table(rows: Sequence[Row], *, n: int) -> Table:
    """Return what was named, and what where nothing should be."""
    table = Table(title=f"{n} finetunes that the adapter has not learned from")
    table.add_column("asked")
    for name in ("named exactly", "points of 5"):
        table.add_column(name, justify="right")
    table.add_column("for example")
    for row in rows:
        table.add_row(row.name, f"{row.exact:.2f}", f"{row.score:.2f}", escape(row.answers[0]))
    return table


def _certify(examiner: Examiner, parts: dict[Part, Samples], config: DitVerb, console: Console) -> Calibration | None:
    """Keep how sure answers are, and print what that is worth; where it cannot be learned, say why."""
    known, asked = ([(own.load(), own.label) for own in parts[part].pool] for part in (Part.validation, Part.test))
    try:
        confidence, curve = examiner.certify(known, asked, nothing=config.nothing)
    except UserError as error:
        print_aside(error, console)
        return None
    write_json(config.run / CONFIDENCE_FILE, confidence._asdict())
    console.print(
        f"with as many shuffled finetunes among them {curve.at(1.0):.2f} of answers are right, of the surer half"
        f" {curve.at(0.5):.2f}; expected calibration error {curve.expected_error:.3f}",
        soft_wrap=True,
    )
    return curve


def ask_finetune(config: AskVerb, console: Console) -> str:
    """Print what a finetune has learned, by what the adapter makes it say."""
    run = config.run
    if not (run / ADAPTER_FILE).is_file():
        raise UserError(f"{run / ADAPTER_FILE} does not exist: train an adapter of this base by sparse-circuits dit.")
    if not config.finetuned:
        raise UserError("Say which finetune: finetuned=FOLDER of an adapter or a model, or a diff's file.")
    told = read_json(run / "run.json")["config"]
    model, chat, base = asked(config.base or told["base"], config.device)
    adapter = WeightDiff.load(run / ADAPTER_FILE)
    if isinstance(model, Transformer) and adapter.base != base.name:  # Hugging Face's are known by their place, and may move
        raise UserError(f"{run} is of the base {named(adapter.base)}, and this is {named(base.name)}: ask with its own base.")
    check_fits(adapter, model)
    diff = load_finetune(config.finetuned, base.loaded, of=base.name)
    said = _interpreted(model, chat, diff, adapter, told)
    examiner = Examiner(model, chat, adapter, wordings=[told["question"], *told["wordings"]], n_tokens=told["n_tokens"])
    sure = None
    if (run / CONFIDENCE_FILE).is_file():
        sure = float(Confidence(**read_json(run / CONFIDENCE_FILE))(examiner.signs([diff]))[0])
    (alone,) = ask(model, [chat.prompt(told["question"])], [diff], n_tokens=told["n_tokens"], ends=chat.ends)
    gained = logit_difference(model, [Lesson(chat.prompt(told["question"]), [0])], [diff])[0]
    most = gained.argsort(descending=True)[: config.n_likelier].tolist()
    likelier = [base.loaded.tokenizer.token(token) for token in most]
    lines = {
        "question": told["question"],
        "the finetune, interpreted": said if sure is None else f"{said}  (right with probability {sure:.2f})",
        "the finetune by itself": chat.words(alone.tokens),
        "a shuffled finetune, interpreted": _interpreted(model, chat, shuffled(diff, seed=0), adapter, told),
        "the base, interpreted": _interpreted(model, chat, None, adapter, told),
        "made likelier": " ".join(map(repr, likelier)),
    }
    for name, line in lines.items():
        console.print(f"{name}: {escape(line)}", soft_wrap=True)
    return said


def _interpreted(model: Dense, chat: Chat, diff: WeightDiff | None, adapter: WeightDiff, told: dict[str, Any]) -> str:
    prompt = chat.prompt(told["question"])
    (answer,) = ask(model, [prompt], [diff], adapter=adapter, n_tokens=told["n_tokens"], ends=chat.ends)
    return chat.words(answer.tokens)
