"""The doctor's findings as a table for the terminal."""

from collections.abc import Sequence

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

N_ANSWERS_SHOWN = 2


def diagnosis_table(diagnoses: Sequence[Diagnosis]) -> Table:
    """Return a table with a row for each task, and below it why the invalid ones are."""
    invalid = [diagnosis for diagnosis in diagnoses if diagnosis.verdict is Verdict.invalid]
    table = Table(title="Tasks", caption="\n".join(map(_reasons, invalid)))
    table.add_column("task", no_wrap=True)
    table.add_column("verdict")
    table.add_column("answers")
    for header in ("pairs", "valid", "tokens", "duplicates", "fillers (in train)", "loss", "accuracy", "margin", "bigram loss"):
        table.add_column(header, justify="right")
    for diagnosis in diagnoses:
        table.add_row(*_row(diagnosis))
    return table


def _row(diagnosis: Diagnosis) -> list[str]:
    text, evaluation = diagnosis.text, diagnosis.evaluation
    colour = COLOURS[diagnosis.verdict]
    return [
        escape(diagnosis.task),
        f"[{colour}]{diagnosis.verdict.name}[/{colour}]",
        escape(f"{_answers(text.positive_answers)} | {_answers(text.negative_answers)}"),
        str(text.n_pairs),
        f"{text.n_pairs / text.n_draws:.0%}" if text.n_draws else "",
        f"{text.n_tokens_min}-{text.n_tokens_max}",
        str(text.dropped.get("duplicate", 0)),
        f"{text.n_fillers} ({text.n_train_fillers})",
        f"{evaluation.loss:.3f}" if evaluation else "",
        f"{evaluation.accuracy:.3f}" if evaluation else "",
        f"{evaluation.margin:.2f}" if evaluation else "",
        "" if diagnosis.bigram_loss is None else f"{diagnosis.bigram_loss:.3f}",
    ]


def _reasons(diagnosis: Diagnosis) -> str:
    dropped = ", ".join(f"{count} {reason}" for reason, count in diagnosis.text.dropped.items())
    return escape(f"{diagnosis.task}: {diagnosis.text.n_draws} draws, of which {dropped}")


def _answers(texts: Sequence[str]) -> str:
    shown = " ".join(repr(text) for text in texts[:N_ANSWERS_SHOWN])
    return shown + (f" +{len(texts) - N_ANSWERS_SHOWN}" if len(texts) > N_ANSWERS_SHOWN else "")
