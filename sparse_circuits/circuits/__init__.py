"""Circuits: the few nodes and weights that a sparse model needs for a task, and the proof that it uses them."""

from sparse_circuits.circuits.circuit import Circuit, Prediction
from sparse_circuits.circuits.discover import MaskConfig
from sparse_circuits.circuits.edges import Edge, TokenLink
from sparse_circuits.circuits.extract import ExtractConfig, extract
from sparse_circuits.circuits.faithfulness import Card
from sparse_circuits.circuits.means import Means, load_means, measure_means, save_means

__all__ = [
    "Card",
    "Circuit",
    "Edge",
    "ExtractConfig",
    "MaskConfig",
    "Means",
    "Prediction",
    "TokenLink",
    "extract",
    "load_means",
    "measure_means",
    "save_means",
]
