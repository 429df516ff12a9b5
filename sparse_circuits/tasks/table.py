"""The doctor's findings as two tables that fit a terminal of 80 columns."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from sparse_circuits.tasks.doctor import Diagnosis, Verdict

COLOURS = {
    Verdict.known: "green",
    Verdict.unknown: "yellow",
    Verdict.bigram: "cyan",
    Verdict.invalid: "red",
    Verdict.unscored: "dim",
}

N_ANSWERS_SHOWN = 1


def pairs_table(diagnoses: Sequence[Diagnosis]) -> Table:
    """Return a table of what the tasks' generators give, and below it why the invalid ones are."""
    invalid = [diagnosis for diagnosis in diagnoses if diagnosis.verdict is Verdict.invalid]
    headers = "pairs", "valid", "tokens", "repeats", "fillers", "in train"
    table = _table("The tasks' pairs", headers, caption="\n".join(map(_reasons, invalid)))
    table.expand = True
    table.add_column("answers", no_wrap=True, overflow="ellipsis", ratio=1)  # what room is left; whole in tasks.json
    for diagnosis in diagnoses:
        text = diagnosis.text
        table.add_row(
            escape(diagnosis.task),
            str(text.n_pairs),
            f"{text.n_pairs / text.n_draws:.0%}" if text.n_draws else "",
            f"{text.n_tokens_min}-{text.n_tokens_max}",
            str(text.dropped.get("duplicate", 0)),
            str(text.n_fillers),
            str(text.n_train_fillers),
            escape(f"{_answers(text.positive_answers)} | {_answers(text.negative_answers)}"),
        )
    return table


def verdict_table(diagnoses: Sequence[Diagnosis]) -> Table:
    """Return a table of what the model, or its bigram table alone, knows of the tasks."""
    table = _table("What the model knows", ("verdict", "loss", "accuracy", "margin", "loss of the bigram table alone"))
    for diagnosis in diagnoses:
        evaluation, colour = diagnosis.evaluation, COLOURS[diagnosis.verdict]
        table.add_row(
            escape(diagnosis.task),
            f"[{colour}]{diagnosis.verdict.name}[/{colour}]",
            f"{evaluation.loss:.3f}" if evaluation else "",
            f"{evaluation.accuracy:.3f}" if evaluation else "",
            f"{evaluation.margin:.2f}" if evaluation else "",
            "" if diagnosis.bigram_loss is None else f"{diagnosis.bigram_loss:.3f}",
        )
    return table


def _table(title: str, headers: Sequence[str], *, caption: str = "") -> Table:
    table = Table(title=title, caption=caption, box=SIMPLE_HEAD, padding=0, show_edge=False)
    table.add_column("task", no_wrap=True)
    for header in headers:
        table.add_column(header, justify="right", min_width=max(map(len, header.split())))
    return table


def _reasons(diagnosis: Diagnosis) -> str:
    dropped = ", ".join(f"{count} {reason}" for reason, count in diagnosis.text.dropped.items())
    return escape(f"{diagnosis.task}: {diagnosis.text.n_draws} draws, of which {dropped}")


def _answers(texts: Sequence[str]) -> str:
    shown = " ".join(repr(text) for text in texts[:N_ANSWERS_SHOWN])
    return shown + (f" +{len(texts) - N_ANSWERS_SHOWN}" if len(texts) > N_ANSWERS_SHOWN else "")
