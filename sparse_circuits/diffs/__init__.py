"""Weight diffs: what a finetune changed, as a value, and models that have it."""

from sparse_circuits.diffs.apply import applied, applied_by_row
from sparse_circuits.diffs.weight_diff import LowRank, WeightDiff, Whole, diff_between

__all__ = ["LowRank", "WeightDiff", "Whole", "applied", "applied_by_row", "diff_between"]
