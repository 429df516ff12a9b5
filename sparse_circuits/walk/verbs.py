"""What does the work of each verb."""

from sparse_circuits.walk import bridges, circuits, diffs, interpret, models, pages, quickstart, tasks, training

DO = {
    "quickstart": quickstart.quickstart,
    "data": training.data,
    "train": training.train,
    "tasks": tasks.tasks,
    "extract": circuits.extract_circuits,
    "attack": circuits.attack,
    "export": circuits.export_circuits,
    "bridge": bridges.bridge,
    "steer": bridges.steer,
    "verify": models.verify,
    "diff": diffs.diff,
    "embed": diffs.embed_finetunes,
    "dit": interpret.dit,
    "ask": interpret.ask_finetune,
    "report": pages.report,
    "view": pages.view,
}
