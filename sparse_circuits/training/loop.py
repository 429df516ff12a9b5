"""The one training loop: pretraining, mask learning, bridges and adapters differ in their step, never in their loop."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

Metrics = Mapping[str, float | Tensor]


@runtime_checkable
class Step(Protocol):
    """One optimizer step on one batch."""

    def __call__(self, batch: Any, *, index: int) -> Metrics:
        """Take step number `index` (from 0) and return what was measured on the way."""


@runtime_checkable
class Batches(Protocol):
    """Where batches come from."""

    def next_batch(self) -> Any:
        """Return the next batch."""


@runtime_checkable
class Track(Protocol):
    """Where metrics go."""

    def log(self, step: int, metrics: Metrics) -> None:
        """Keep what was measured up to this many steps."""

    def rewind(self, step: int) -> None:
        """Forget what was logged after this step: the run goes on from its checkpoint."""


@runtime_checkable
class Checkpoints(Protocol):
    """What remembers a run, so that it can be killed."""

    def restore(self, step: Step, batches: Batches) -> int:
        """Load the newest checkpoint into step and batches, and return how many steps it had taken (0: none)."""

    def due(self, done: int) -> bool:
        """Whether a checkpoint is wanted after this many steps."""

    def save(self, step: Step, batches: Batches, *, done: int) -> None:
        """Keep everything needed to go on from here."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, after the step in hand was finished and saved."""


def fit(
    step: Step,
    batches: Batches,
    *,
    n_steps: int,
    track: Track | None = None,
    evaluate: Callable[[], Metrics] | None = None,
    evaluate_every: int = 0,
    checkpoints: Checkpoints | None = None,
) -> None:
    """Take steps until `n_steps` are done, from where the newest checkpoint stopped.

    Args:
        step: what one step is.
        batches: where its batches come from.
        n_steps: how many steps the whole run has.
        track: where metrics go, if anywhere.
        evaluate: measured every `evaluate_every` steps and at the end; 0: at the end only.
        checkpoints: what saves and restores the run, if anything.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM, when the run has been saved.
    """
    start = checkpoints.restore(step, batches) if checkpoints else 0
    if track and checkpoints:  # also to 0: a run killed before its first checkpoint begins anew
        track.rewind(start)
    with stop_signals() as stopped:
        for index in range(start, n_steps):
            metrics = step(batches.next_batch(), index=index)
            done = index + 1
            if track:
                track.log(done, metrics)
                if evaluate and (done == n_steps or (evaluate_every and done % evaluate_every == 0)):
                    track.log(done, evaluate())
            if checkpoints and (done == n_steps or stopped() or checkpoints.due(done)):
                checkpoints.save(step, batches, done=done)
            if stopped() and done < n_steps:
                remedy = "; go on with resume=true" if checkpoints else ""
                raise Interrupted(f"stopped after step {done} of {n_steps}{remedy}")


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag that is read between steps; a second one stops at once."""
    received: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.default_int_handler)

    watched = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {number: signal.signal(number, receive) for number in watched}
    except ValueError:  # not the main thread: whoever owns the signals decides
        yield lambda: False
        return
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
