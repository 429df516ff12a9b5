"""What a served page works with: a run's circuits, each in its whole model where that is at hand, and its bridge."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sparse_circuits.circuits import Circuit
from sparse_circuits.errors import UserError
from sparse_circuits.model.store import model_hash
from sparse_circuits.report.server.live import Place
from sparse_circuits.report.server.steering import Steering
from sparse_circuits.tasks import TASKS
from sparse_circuits.training.export import Trained

NO_MODEL = "The whole model is not at hand: give its place, as checkpoint=RUN_FOLDER or checkpoint=pretrained:NAME."


@dataclass(frozen=True)
class Session:
    """A run, loaded."""

    model: Place | None
    """The run's whole model, without a circuit."""
    circuits: list[Place]
    """In the page's order."""
    steering: Steering | None
    why_no_steering: str | None

    def place(self, index: int | None) -> Place:
        """Return a circuit's place on the page, or with None the whole model's.

        Raises:
            UserError: there is no such circuit, or the whole model is not at hand.
        """
        if index is None:
            if self.model is None:
                raise UserError(NO_MODEL)
            return self.model
        if not 0 <= index < len(self.circuits):
            raise UserError(f"The page has {len(self.circuits)} circuits, counted from 0: there is no {index}.")
        return self.circuits[index]

    def describe(self) -> dict[str, Any]:
        """Return what the page has to know of it: `live` in the payload, but for the limits."""
        return {
            "model": self.model and {"n_ctx": self.model.model.config.n_ctx},
            "circuits": [_describe(place) for place in self.circuits],
            "steering": self.steering is not None,
            "why_no_steering": self.why_no_steering,
        }


def _describe(place: Place) -> dict[str, Any]:
    spec = place.circuit.task
    return {
        "model": place.model is not None,
        "why": None if place.model else NO_MODEL,
        "answers": spec.answers,
        "n_pairs": spec.n_held_out_pairs if spec.name in TASKS else 0,
        "n_ctx": place.circuit.model.config.n_ctx,
    }


def open_session(
    circuits: Iterable[Circuit], trained: Trained | None, *, steering: Steering | None, why_no_steering: str | None
) -> Session:
    """Put circuits into the model that they were found in, where it is this one, or the one in their file is whole.

    Args:
        circuits: in the page's order.
        trained: the run's model, or None.
        steering: the run's bridge.
        why_no_steering: why there is none.
    """
    hashed = trained and model_hash(trained.model)
    places = [_place(circuit, trained if hashed == circuit.model_hash else None) for circuit in circuits]
    means = next((place.means for place in places if place.means.model_hash == hashed), None)
    model = trained and Place(trained.tokenizer, means, trained.model, None)
    return Session(model, places, steering, why_no_steering)


def _place(circuit: Circuit, trained: Trained | None) -> Place:
    model = trained.model if trained else circuit.model if model_hash(circuit.model) == circuit.model_hash else None
    # A circuit's file leaves out most of the bigram table; in the whole model every token has its logit.
    return Place(circuit.tokenizer, circuit.means, model, circuit if model is None else replace(circuit, model=model))


def load_circuits(folder: Path, tasks: Iterable[str]) -> dict[Path, Circuit]:
    """Load the circuits of a run folder, by their files, in the order in which a page has them.

    Args:
        tasks: the page's, one for each circuit.
    """
    named: dict[str, list[tuple[Path, Circuit]]] = defaultdict(list)
    for path in sorted(Path(folder).glob("circuits/*.safetensors")):
        circuit = Circuit.load(path)
        named[circuit.task.name].append((path, circuit))
    return dict(named[task].pop(0) for task in tasks)
