"""Circuits: the few nodes and weights that a sparse model needs for a task, and the proof that it uses them."""

from sparse_circuits.circuits.ablate import Ablation
from sparse_circuits.circuits.card import Card, Check, Control
from sparse_circuits.circuits.circuit import Circuit, Prediction
from sparse_circuits.circuits.discovery.masks import MaskConfig
from sparse_circuits.circuits.discovery.objective import Objective
from sparse_circuits.circuits.discovery.tune import Budget, TuneConfig
from sparse_circuits.circuits.edges import Edge, TokenLink
from sparse_circuits.circuits.evidence.faithfulness import CardConfig
from sparse_circuits.circuits.extract import ExtractConfig, extract
from sparse_circuits.circuits.means import Means, load_means, measure_means, save_means
from sparse_circuits.circuits.notes import Group, Notes

__all__ = [
    "Ablation",
    "Budget",
    "Card",
    "CardConfig",
    "Check",
    "Circuit",
    "Control",
    "Edge",
    "ExtractConfig",
    "Group",
    "MaskConfig",
    "Means",
    "Notes",
    "Objective",
    "Prediction",
    "TokenLink",
    "TuneConfig",
    "extract",
    "load_means",
    "measure_means",
    "save_means",
]
