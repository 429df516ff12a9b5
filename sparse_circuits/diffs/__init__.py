"""Weight diffs: what a finetune changed, as a value; many at once, side by side; what they say, and which are alike."""

from sparse_circuits.diffs.adapter import AdapterConfig, Sample, train_adapter
from sparse_circuits.diffs.apply import applied, applied_by_row
from sparse_circuits.diffs.ask import Answer, ask
from sparse_circuits.diffs.delta import delta_meaning, embed
from sparse_circuits.diffs.finetune import Finetune, FinetuneConfig, finetune
from sparse_circuits.diffs.lessons import Aim, Lesson
from sparse_circuits.diffs.logit_difference import logit_difference
from sparse_circuits.diffs.pool import Pool, clustering
from sparse_circuits.diffs.store import DiffStore, Part
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole, diff_between
from sparse_circuits.diffs.whole import finetune_whole

__all__ = [
    "AdapterConfig",
    "Aim",
    "Answer",
    "DiffStore",
    "Finetune",
    "FinetuneConfig",
    "Lesson",
    "LowRank",
    "Part",
    "Pool",
    "Sample",
    "WeightDiff",
    "Whole",
    "applied",
    "applied_by_row",
    "ask",
    "clustering",
    "delta_meaning",
    "diff_between",
    "embed",
    "finetune",
    "finetune_whole",
    "logit_difference",
    "train_adapter",
]
