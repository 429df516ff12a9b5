"""Bridges: from a dense model's residual stream to a sparse one's and back: a circuit as a handle on the dense model."""

from sparse_circuits.bridges.bridge import Bridge, Crossing, load_bridge, pair_sites, save_bridge
from sparse_circuits.bridges.evaluate import BridgeScores, evaluate_bridge
from sparse_circuits.bridges.hybrid import alternate, into_dense, into_sparse, observe, run_from_each
from sparse_circuits.bridges.losses import BridgeConfig, BridgeLoss

__all__ = [
    "Bridge",
    "BridgeConfig",
    "BridgeLoss",
    "BridgeScores",
    "Crossing",
    "alternate",
    "evaluate_bridge",
    "into_dense",
    "into_sparse",
    "load_bridge",
    "observe",
    "pair_sites",
    "run_from_each",
    "save_bridge",
]
