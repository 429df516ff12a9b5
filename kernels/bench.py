"""Timing of an op against its peers, in one process and in turn, and the floor that the memory sets."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)


class Size(Enum):
    """What a benchmark runs on: a GPU's sizes, a laptop's, or the smallest that reach every branch."""

    gpu = "gpu"
    cpu = "cpu"
    dry = "dry"


@dataclass(frozen=True)
class Bench:
    """One op at one shape, beside its peers, on fresh random inputs."""

    op: str
    shape: str
    """Shape and dtype as the table prints them, such as `131072 x 2048, k 512, bf16`."""
    ours: Callable[[], object]
    peers: dict[str, Callable[[], object]]
    """Other ways to the same result, by the names that the table prints."""
    check: Callable[[], None]
    """Raises AssertionError when ours does not give what the reference gives."""
    bytes_moved: int
    """What the op must at least read and write: the floor, over the copy bandwidth."""
    before: Callable[[], object] | None = None
    """Called before every call, and not timed: puts back what a call destroys."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one call over repeats."""

    fast: float
    median: float
    slow: float
    """Quantiles 20, 50 and 80 per cent."""
    peak_bytes: int | None = field(default=None)
    """Most memory allocated during a call beyond what stood before it; on a GPU only."""


def name_of(dtype: torch.dtype) -> str:
    """Return a dtype's name as tables print it."""
    return str(dtype).removeprefix("torch.").replace("bfloat16", "bf16")


def processor() -> str:
    """Return the CPU's name."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def time_in_turn(
    calls: dict[Name, Callable[[], object]],
    device: torch.device,
    *,
    repeats: int,
    before: Callable[[], object] | None = None,
) -> dict[Name, Timing]:
    """Time every call `repeats` times, one after the other, so that whatever else the machine does strikes all alike."""
    seconds: dict[Name, list[float]] = {name: [] for name in calls}
    peaks: dict[Name, int | None] = dict.fromkeys(calls)
    for repeat in range(repeats + 1):
        for name, call in calls.items():
            if before:
                before()
            taken, peaks[name] = _once(call, device)
            if repeat:  # the first call compiles and fills the caches
                seconds[name].append(taken)
    return {name: _quantiles(times, peaks[name]) for name, times in seconds.items()}


def _quantiles(times: list[float], peak_bytes: int | None) -> Timing:
    if len(times) == 1:
        return Timing(times[0], times[0], times[0], peak_bytes)
    fifths = statistics.quantiles(times, n=5)
    return Timing(fifths[0], statistics.median(times), fifths[-1], peak_bytes)


def _once(call: Callable[[], object], device: torch.device) -> tuple[float, int | None]:
    if device.type != "cuda":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start, None
    # Events lie in the GPU's own queue; what the cache holds of the call before is overwritten first.
    torch.empty(256 << 20, dtype=torch.uint8, device=device).zero_()
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    call()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1e3, torch.cuda.max_memory_allocated(device) - before


def copy_bandwidth(device: torch.device, *, n_bytes: int) -> float:
    """Return the bytes a second that a plain copy reads and writes on this device, measured."""
    source = torch.empty(n_bytes, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    return 2 * n_bytes / time_in_turn({"copy": lambda: target.copy_(source)}, device, repeats=9)["copy"].median
