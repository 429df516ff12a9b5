"""The transformer, its sites, and the taps that read and change them."""

from sparse_circuits.model.config import ModelConfig, Positions
from sparse_circuits.model.generate import generate
from sparse_circuits.model.names import Names
from sparse_circuits.model.sites import Link, Node, links, match_sites, node_sites, site_width
from sparse_circuits.model.store import load_model, save_model
from sparse_circuits.model.taps import record
from sparse_circuits.model.transformer import Transformer

__all__ = [
    "Link",
    "ModelConfig",
    "Names",
    "Node",
    "Positions",
    "Transformer",
    "generate",
    "links",
    "load_model",
    "match_sites",
    "node_sites",
    "record",
    "save_model",
    "site_width",
]
