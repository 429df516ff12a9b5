"""Keep the k entries of largest magnitude in every row."""

from sparse_circuits.kernels.abs_topk.op import abs_topk, gelu_abs_topk, rms_norm_abs_topk

__all__ = ["abs_topk", "gelu_abs_topk", "rms_norm_abs_topk"]
