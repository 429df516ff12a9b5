"""Circuits in other programs' formats: a stand-alone Python program, networkx, GraphML, DOT, JSON, CSV, npz, circuit-tracer."""

from sparse_circuits.interop.circuit_tracer import write_circuit_tracer
from sparse_circuits.interop.export import Format, export
from sparse_circuits.interop.graph import networkx
from sparse_circuits.interop.schema import load_json

__all__ = ["Format", "export", "load_json", "networkx", "write_circuit_tracer"]
