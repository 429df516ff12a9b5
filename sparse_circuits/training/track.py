"""Where metrics go: metrics.jsonl always, a live line in the terminal, wandb when asked; this is wandb's only gate."""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sparse_circuits.errors import UserError
from sparse_circuits.run import read_json, replacing, write_json
from sparse_circuits.training.loop import Metrics, Track


class Tracker(Enum):
    """Where metrics go beside metrics.jsonl and the progress line."""

    jsonl = "jsonl"
    wandb = "wandb"
    wandb_offline = "wandb_offline"


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl, leaving out a last line that a crash cut short."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in lines[:-1]]


class Jsonl:
    """One JSON object a line: training metrics every so many steps, evaluations always."""

    def __init__(self, path: Path, *, every: int) -> None:
        self.path, self.every = path, every

    def log(self, step: int, metrics: Metrics) -> None:
        if "loss" in metrics and step % self.every:
            return
        line = {"step": step} | {name: float(value) for name, value in metrics.items()}
        try:
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(line) + "\n")
        except OSError as error:
            raise UserError(f"Could not write {self.path} ({error.strerror}): free space, then resume=true.") from error

    def rewind(self, step: int) -> None:
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        with replacing(self.path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")

    def close(self) -> None:
        pass


class Wandb:
    """Weights & Biases, online or offline; imported only here and only when asked for.

    The run's id is random, for folders of two sweeps have one name, and kept in the folder, for a resumed run goes on under it.

    Raises:
        UserError: wandb refuses, as it does without a key.
    """

    def __init__(self, folder: Path, *, every: int, config: dict[str, Any], offline: bool) -> None:
        import wandb

        self.every = every
        kept = folder / "wandb.json"
        if not kept.exists():
            write_json(kept, {"id": secrets.token_hex(8)})
        try:
            self.run = wandb.init(
                project="sparse_circuits",
                name=folder.name,
                id=read_json(kept)["id"],
                resume="allow",
                dir=folder,
                config=config,
                mode="offline" if offline else "online",
            )
        except wandb.Error as error:
            raise UserError(
                f"wandb does not begin a run ({error}): log in with `wandb login`, or set track=wandb_offline."
            ) from error

    def log(self, step: int, metrics: Metrics) -> None:
        if "loss" not in metrics or step % self.every == 0:
            self.run.log({name: float(value) for name, value in metrics.items()}, step=step)

    def rewind(self, step: int) -> None:
        pass

    def close(self) -> None:
        self.run.finish()


class ProgressLine:
    """Loss and time left, of pretraining tokens and L0 as well: a live line, or now and then a line of a log file."""

    def __init__(self, *, n_steps: int, console: Console, tokens_per_step: int = 0) -> None:
        self.n_steps, self.tokens_per_step, self.console = n_steps, tokens_per_step, console
        self.started, self.first_step, self.shown = time.monotonic(), 0, -math.inf
        self.live = Live(console=console, refresh_per_second=4) if console.is_terminal else None
        self.period = 0.25 if self.live else 30.0
        if self.live:
            self.live.start()

    def log(self, step: int, metrics: Metrics) -> None:
        now = time.monotonic()
        if "loss" not in metrics or (now - self.shown < self.period and step < self.n_steps):
            return
        self.shown = now
        speed = (step - self.first_step) / max(1e-9, now - self.started)
        left = (self.n_steps - step) / speed
        parts = [f"step {step:,}/{self.n_steps:,}", f"loss {float(metrics['loss']):.3f}"]
        if self.tokens_per_step:
            parts.insert(1, f"{step * self.tokens_per_step / 1e6:.1f} M tokens")
            parts += [f"L0 {float(metrics['l0']):,.0f}", f"lr {float(metrics['lr']):.2e}"]
            parts.append(f"{speed * self.tokens_per_step:,.0f} tokens/s")
        line = Text("  ".join([*parts, f"{left // 60:.0f}:{left % 60:02.0f} left"]))
        if self.live:
            self.live.update(line)
        else:
            self.console.print(line, soft_wrap=True)

    def rewind(self, step: int) -> None:
        self.first_step = step

    def close(self) -> None:
        if self.live:
            self.live.stop()


class Tracks:
    """Several tracks as one."""

    def __init__(self, tracks: Sequence[Track]) -> None:
        self.tracks = tracks

    def log(self, step: int, metrics: Metrics) -> None:
        for track in self.tracks:
            track.log(step, metrics)

    def rewind(self, step: int) -> None:
        for track in self.tracks:
            track.rewind(step)

    def close(self) -> None:
        for track in self.tracks:
            track.close()
