"""What else is measured of circuits: necessity curves, other stand-ins, switches, edges in the model and in the circuit.

    python -m experiments.measures runs/proof/NAME/*-partial-0.safetensors

A cell is one circuit (Gao et al. 2025, figures 32 and 34, appendices C and E).
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from experiments.cells import RESULTS, Cells
from sparse_circuits.circuits import Circuit, ExtractConfig
from sparse_circuits.circuits.evidence.necessity import necessity_curve
from sparse_circuits.circuits.extract import draw_splits
from sparse_circuits.circuits.measures.binarise import binarise
from sparse_circuits.circuits.measures.traceable import trace
from sparse_circuits.circuits.sampler import TaskPairs
from sparse_circuits.plain import from_plain
from sparse_circuits.run import sha256_file
from sparse_circuits.tasks import TASKS

SWITCH_STEPS = 500
"""Of training the levels that nodes switch between."""


def pairs_of(circuit: Circuit) -> TaskPairs:
    """Return the pairs that a circuit was found and judged on, drawn again."""
    config, model = from_plain(ExtractConfig, circuit.recipe), circuit.model
    device = model.embed.weight.device
    return draw_splits(TASKS[circuit.task.name], circuit.tokenizer, config, max_tokens=model.config.n_ctx, device=device)


def of_circuit(path: Path) -> dict[str, Any]:
    """Measure one circuit on its held-out pairs."""
    circuit = Circuit.load(path)
    pairs = pairs_of(circuit)
    curve = necessity_curve(circuit, pairs.held_out)
    switches = binarise(circuit, pairs.train, pairs.held_out)
    trained = binarise(circuit, pairs.train, pairs.held_out, schedule=(0.0,), n_steps=SWITCH_STEPS)
    traced = trace(circuit)
    return {
        "shares": curve.shares,
        "random": curve.random,
        "by_effect": curve.by_effect,
        "outside": circuit.card["outside"].loss,
        "resample": circuit.card["resample"].loss,
        "alone": circuit.card["circuit"].loss,
        "binarised": {str(t): loss for t, loss in switches.loss_by_t.items()},
        "binarised_trained": trained.loss_by_t[0.0],
        "share_binary": switches.share_binary,
        "edges_in_model": traced.in_all.in_model,
        "edges_in_circuit": traced.in_all.in_circuit,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("circuits", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS / "measures.jsonl")
    options = parser.parse_args()
    cells = Cells(options.out)
    for path in options.circuits:
        cells.run(partial(of_circuit, path), circuit=path.stem, sha256=sha256_file(path))


if __name__ == "__main__":
    main()
