"""The density below which the sparse product was faster than the dense one, by device and dtype, as measured.

Written by `python -m sparse_circuits.kernels.sparse_linear.benchmark`, which replaces what it measures and keeps the rest.
"""

CROSSOVER: dict[tuple[str, str], float] = {
    ("cpu AVX512", "bfloat16"): 0.0257,
    ("cpu AVX512", "float32"): 0.226,
}
