"""What a served page can ask: each question a dataclass, each answered by one function; a table holds them.

    api/run     RunRequest   a prompt in model and circuit, changed          -> live.Outcome, with `why` where model is null
    api/pair    PairRequest  any held-out pair of a circuit's task           -> pair.ShownPair
    api/steer   SteerRequest the dense model, steered through the bridge     -> steering.Steered
    api/labels  LabelsRequest  a circuit's labels and groups, into its file  -> {}
    api/cancel  {}           whatever is in progress or waits is given up    -> {cancelled: how many}

A new question is a dataclass, a function and a line in `answers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from sparse_circuits.circuits import Notes
from sparse_circuits.circuits.notes import Group
from sparse_circuits.errors import UserError
from sparse_circuits.plain import to_plain
from sparse_circuits.report.server.change import Intervention
from sparse_circuits.report.server.live import Proceed, run_prompt
from sparse_circuits.report.server.pair import show_pair
from sparse_circuits.report.server.request import Request, read_request
from sparse_circuits.report.server.session import NO_MODEL, Session
from sparse_circuits.report.server.worker import Worker

Answer = Callable[[bytes], Any]
"""From a request's body to plain values."""


@dataclass(frozen=True)
class RunRequest:
    """What does this prompt do?"""

    prompt: str
    circuit: int | None = None
    """On the page, from 0; None: the whole model alone."""
    interventions: list[Intervention] = field(default_factory=list)
    cuts: list[tuple[str, str]] = field(default_factory=list)
    """Source and target of each edge."""
    answers: tuple[str, str] | None = None
    """The positive and the negative one, where the task's pairs differ in them."""


@dataclass(frozen=True)
class PairRequest:
    """What is held-out pair number `index` of a circuit's task?"""

    circuit: int
    index: int


@dataclass(frozen=True)
class SteerRequest:
    """What does the dense model say after a prompt, pushed towards another by a node of the sparse one?"""

    circuit_node: str
    from_prompt: str
    to_prompt: str
    strength: float = 1.0


@dataclass(frozen=True)
class LabelsRequest:
    """Keep what a reader has written on a circuit."""

    circuit: int
    labels: dict[str, str] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)


@dataclass(frozen=True)
class CancelRequest:
    """Give up what is in progress and what waits."""


KeepNotes = Callable[[int, Notes], None]
"""From a circuit's place on the page and its notes to its file."""


def answers(session: Session, worker: Worker, *, keep_notes: KeepNotes) -> dict[str, Answer]:
    """Return what answers each question, by its path; all but `cancel` take their turn with the worker."""

    def in_turn(kind: type[Request], work: Callable[[Session, Request, Proceed], Any]) -> Answer:
        return lambda body: to_plain(worker.do(partial(work, session, read_request(kind, body))))

    def cancel(body: bytes) -> dict[str, int]:
        read_request(CancelRequest, body)
        return {"cancelled": worker.cancel()}

    def labels(session: Session, asked: LabelsRequest, proceed: Proceed) -> dict[str, Any]:
        session.place(asked.circuit)  # which is there, or refused
        keep_notes(asked.circuit, Notes(asked.labels, asked.groups))
        return {}

    return {
        "api/run": in_turn(RunRequest, _run),
        "api/pair": in_turn(PairRequest, _pair),
        "api/steer": in_turn(SteerRequest, _steer),
        "api/labels": in_turn(LabelsRequest, labels),
        "api/cancel": cancel,
    }


def _run(session: Session, asked: RunRequest, proceed: Proceed) -> dict[str, Any]:
    found = run_prompt(
        session.place(asked.circuit),
        asked.prompt,
        interventions=asked.interventions,
        cuts=asked.cuts,
        answers=asked.answers,
        proceed=proceed,
    )
    return {**to_plain(found), "why": NO_MODEL if found.model is None else None}


def _pair(session: Session, asked: PairRequest, proceed: Proceed) -> Any:
    return show_pair(session.place(asked.circuit), asked.index, proceed=proceed)


def _steer(session: Session, asked: SteerRequest, proceed: Proceed) -> Any:
    if session.steering is None:
        raise UserError(session.why_no_steering)
    return session.steering.push(
        asked.circuit_node, asked.from_prompt, asked.to_prompt, strength=asked.strength, proceed=proceed
    )
