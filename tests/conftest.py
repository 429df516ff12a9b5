"""One seed for every test, and markers that say why a test is skipped."""

import inspect
import os

import pytest
import torch
from hypothesis import settings

# How long an example takes says something of the machine, not of the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# Tests run side by side: their processes, and those that they start, share the cores.
if n_workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    n_threads = max(1, (os.cpu_count() or 1) // n_workers)
    torch.set_num_threads(n_threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(n_threads))

# Without a GPU, Triton's interpreter runs the kernels; it is asked once, when triton is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

try:
    import triton
except ImportError:  # not on Linux
    pass
else:
    # The shape checker wraps every function that is imported; Triton must be handed the kernel itself.
    _jit = triton.jit
    triton.jit = lambda kernel: _jit(inspect.unwrap(kernel))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    without_gpu = pytest.mark.skip(reason="needs a CUDA or ROCm device")
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(without_gpu)
