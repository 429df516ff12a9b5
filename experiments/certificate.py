"""Is every node and every edge of a circuit needed? Each is removed by itself, and the whole circuit run anew.

    python -m experiments.certificate --checkpoint pretrained:NAME runs/proof/NAME/*-partial-0.safetensors

On the validation pairs that chose the circuit, in every run in which it has to reach its target, in the whole model: of
that a circuit's file holds only what the circuit alone runs on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from sparse_circuits.circuits import Circuit, ExtractConfig
from sparse_circuits.circuits.extract import prepare_search
from sparse_circuits.circuits.margin import score
from sparse_circuits.circuits.subgraph import Subgraph
from sparse_circuits.conf.verbs import DEFAULT_RUN
from sparse_circuits.model import Transformer
from sparse_circuits.plain import from_plain
from sparse_circuits.subject import subject_of
from sparse_circuits.tasks import TASKS


def removable(circuit: Circuit, model: Transformer) -> tuple[int, list[str], float]:
    """Return how many pieces a circuit of the model has, those that can go, and the least loss without a single piece."""
    config = from_plain(ExtractConfig, circuit.recipe)
    search = prepare_search(model, TASKS[circuit.task.name], circuit.tokenizer, circuit.means, config=config)
    subgraph = Subgraph(circuit.nodes, circuit.edges, tuple(circuit.merges))

    def loss_of(part: Subgraph) -> float:
        return max(score(circuit.calibration(margin)).loss for margin in search.margins(part))

    assert loss_of(subgraph) <= config.target_loss
    losses = {str(piece): loss_of(subgraph.without(piece)) for piece in subgraph.pieces()}
    return len(losses), [piece for piece, loss in losses.items() if loss <= config.target_loss], min(losses.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", required=True, help="pretrained:NAME or a run folder")
    parser.add_argument("circuits", nargs="+", type=Path)
    options = parser.parse_args()
    model = subject_of(DEFAULT_RUN, options.checkpoint).model
    for path in options.circuits:
        n_pieces, can_go, least = removable(Circuit.load(path), model)
        print(f"{path.stem}: of {n_pieces} pieces {len(can_go)} can go {can_go}; least loss without one: {least:.4f}")


if __name__ == "__main__":
    main()
