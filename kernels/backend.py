"""Which implementation an op runs: chosen once, by name, and the same until another is chosen.

| backend | what runs | where |
| --- | --- | --- |
| `triton` | kernels written for the GPU | CUDA and ROCm devices; to test them, under Triton's interpreter |
| `cpu` | NumPy and torch's own CPU kernels | CPU |
| `reference` | plain PyTorch, clear before fast | everywhere |
| `compiled` | plain PyTorch through torch.compile | everywhere; needs a C++ compiler on a CPU |
| `auto` | `triton` on CUDA and ROCm, `cpu` on a CPU, `reference` elsewhere | |

Nothing falls back in silence: what a backend cannot run, it refuses. An op that has no implementation of its own for a
backend says in its docstring what it runs instead.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from enum import Enum
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import torch

OPS = ("abs_topk", "magnitude_prune", "mean_ablate", "sink_attention", "sparse_linear")


class Backend(Enum):
    """Which implementation of the kernels runs."""

    auto = "auto"
    triton = "triton"
    cpu = "cpu"
    reference = "reference"
    compiled = "compiled"


_chosen = dict.fromkeys(OPS, Backend.auto)


@contextmanager
def use_backend(backend: Backend, *, ops: Collection[str] = OPS) -> Iterator[None]:
    """Run the given ops through one backend inside the context.

    Raises:
        ValueError: an op does not exist.
    """
    if unknown := sorted(set(ops) - set(OPS)):
        raise ValueError(f"No op is called {unknown[0]!r}: choose among {', '.join(OPS)}.")
    before = dict(_chosen)
    _chosen.update(dict.fromkeys(ops, backend))
    try:
        yield
    finally:
        _chosen.update(before)


def resolve_backend(backend: Backend, device: torch.device) -> Backend:
    """Return what `auto` stands for on this device, or the backend itself when it runs there.

    Raises:
        ValueError: the backend does not run on this device.
    """
    on_gpu = device.type == "cuda"
    match backend:
        case Backend.auto if on_gpu:
            return Backend.triton
        case Backend.auto:
            return Backend.cpu if device.type == "cpu" else Backend.reference
        case Backend.triton if not on_gpu and os.environ.get("TRITON_INTERPRET") != "1":
            raise ValueError(f"backend=triton needs a CUDA or ROCm device, and this is {device.type}: choose backend=auto.")
        case Backend.cpu if device.type != "cpu":
            raise ValueError(f"backend=cpu runs on the CPU only, and this is {device.type}: choose backend=auto.")
    return backend


def backend_of(op: str, device: torch.device) -> Backend:
    """Return the backend that was chosen for this op.

    Raises:
        ValueError: it does not run on this device.
    """
    return resolve_backend(_chosen[op], device)


def implementation(op: str, device: torch.device, *, by_reference: Collection[Backend] = ()) -> ModuleType:
    """Return the module of an op's folder that the chosen backend runs.

    Args:
        op: the op's folder.
        device: where its tensors are.
        by_reference: backends for which the op has no implementation of its own and runs the reference.

    Raises:
        ValueError: the backend does not run on this device.
    """
    backend = backend_of(op, device)
    # Imported when first run: Triton is there on Linux only.
    return _module(op, Backend.reference if backend in by_reference else backend)


@cache
def _module(op: str, backend: Backend) -> ModuleType:
    return import_module(f"sparse_circuits.kernels.{op}.{'gpu' if backend is Backend.triton else backend.name}")


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function through torch.compile, which is imported and compiles at the first call only."""
    return torch.compile(function, dynamic=False)
