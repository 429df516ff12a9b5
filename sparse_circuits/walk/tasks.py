"""The doctor, and the tasks that a verb's references name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sparse_circuits.conf.verbs import DEFAULT_RUN, TasksVerb
from sparse_circuits.data import Tokenizer
from sparse_circuits.errors import UserError
from sparse_circuits.run import write_json
from sparse_circuits.subject import bigram_of, circuit_path, subject_of
from sparse_circuits.tasks import TASKS, Diagnosis, Task, examine, find_task, pairs_table, verdict_table


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


def tasks_with_circuit(run: Path, references: Sequence[str]) -> list[Task]:
    """Return the tasks that the references name, `all` standing for those of the twenty that the run has a circuit of.

    Raises:
        UserError: there are none.
    """
    extracted = [name for name in TASKS if circuit_path(run, name).exists()]
    chosen = find_tasks([name for reference in references for name in (extracted if reference == "all" else [reference])])
    if not chosen:
        raise UserError(f"{run} holds no circuit of the twenty tasks: extract some, or name others in tasks.")
    return chosen
