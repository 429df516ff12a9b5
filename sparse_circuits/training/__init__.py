"""Training: the loop, the steps it takes, and what remembers and tracks them."""

from sparse_circuits.training.config import GradientRule, OptimizerConfig, TrainConfig
from sparse_circuits.training.export import Trained, load_trained
from sparse_circuits.training.loop import Interrupted, fit
from sparse_circuits.training.pretrain import pretrain
from sparse_circuits.training.track import Tracker, read_metrics

__all__ = [
    "GradientRule",
    "Interrupted",
    "OptimizerConfig",
    "Tracker",
    "TrainConfig",
    "Trained",
    "fit",
    "load_trained",
    "pretrain",
    "read_metrics",
]
