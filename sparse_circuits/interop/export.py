"""One door to every format that a circuit is written in."""

from __future__ import annotations

import io
from enum import Enum
from pathlib import Path

import numpy as np

from sparse_circuits.circuits import Circuit
from sparse_circuits.circuits.spec import example_pairs
from sparse_circuits.errors import UserError
from sparse_circuits.interop.arrays import to_npz
from sparse_circuits.interop.circuit_tracer import circuit_tracer_files, circuit_tracer_graph
from sparse_circuits.interop.dot import to_dot
from sparse_circuits.interop.graph import networkx
from sparse_circuits.interop.graphml import to_graphml
from sparse_circuits.interop.program import make_program
from sparse_circuits.interop.schema import to_json
from sparse_circuits.interop.table import to_csv
from sparse_circuits.run import replacing
from sparse_circuits.tasks.encode import EncodedPair


class Format(Enum):
    """How a circuit is written."""

    python = "python"
    """A program that computes the circuit's answer with numpy alone, beside an .npz of constants."""
    graphml = "graphml"
    """The graph, for yEd, Gephi, Cytoscape."""
    dot = "dot"
    """A drawing of the graph, for Graphviz."""
    json = "json"
    """The graph, for programs; `load_json` reads it back."""
    csv = "csv"
    """The graph's edges, for a spreadsheet."""
    npz = "npz"
    """The graph as numpy arrays."""
    circuit_tracer = "circuit_tracer"
    """What the circuit does on a held-out prompt, for circuit-tracer's frontend."""


WRITERS = {
    Format.graphml: to_graphml,
    Format.dot: to_dot,
    Format.json: to_json,
    Format.csv: to_csv,
    Format.npz: to_npz,
}


def export(circuit: Circuit, kind: Format, path: Path) -> list[Path]:
    """Write a circuit in another format, atomically.

    Args:
        circuit: the circuit.
        kind: the format.
        path: the file; for `python` the program, `.py` being added if it is missing.

    Returns:
        The files written: one, or for `python` the program and, of the same name, its .npz, or for `circuit_tracer` the graph
        and the list of the folder's graphs.

    Raises:
        UserError: the program would be longer than 300 lines, there are no pairs of the task to draw a prompt from, the path is
            a folder, or a file could not be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{path} is a folder: name a file.")
    contents = _contents(circuit, kind, path)
    for file in contents:
        if file.is_dir():
            raise UserError(f"{file} is a folder: name a file.")
    for file, content in reversed(contents.items()):  # a program never stands without its constants
        with replacing(file) as temporary:
            temporary.write_bytes(content)
    return list(contents)


def _contents(circuit: Circuit, kind: Format, path: Path) -> dict[Path, bytes]:
    match kind:
        case Format.python:
            return _program(circuit, path)
        case Format.circuit_tracer:
            return circuit_tracer_files(circuit_tracer_graph(circuit, _example(circuit), slug=path.stem), path)
    content = WRITERS[kind](networkx(circuit))
    return {path: content if isinstance(content, bytes) else content.encode()}


def _example(circuit: Circuit) -> EncodedPair:
    """Return the first held-out pair of a circuit's task."""
    pairs = example_pairs(circuit.task, circuit.tokenizer, n_pairs=1, max_tokens=circuit.model.config.n_ctx)
    if not pairs:
        raise UserError(f"{circuit.task.name} is no task of the project's own: call write_circuit_tracer with a prompt.")
    return pairs[0]


def _program(circuit: Circuit, path: Path) -> dict[Path, bytes]:
    path = path if path.suffix == ".py" else path.with_name(f"{path.name}.py")
    program, arrays = make_program(circuit, name=path.name), io.BytesIO()
    np.savez_compressed(arrays, **program.constants)
    return {path: program.text.encode(), path.with_suffix(".npz"): arrays.getvalue()}
