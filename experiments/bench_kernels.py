"""Every kernel against its peers and against the memory: checked on fresh random inputs, then timed, in one run.

    python -m experiments.bench_kernels                               on the GPU if there is one, else on the CPU
    python -m experiments.bench_kernels --device cpu --interpret      a dry run: every branch, tiny, under Triton's interpreter

The floor is what an op must read and write over the bandwidth of a plain copy on the same device, measured first. Writes one
json and prints the table.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from importlib import import_module
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], help="default: cuda where it is there")
    parser.add_argument(
        "--interpret", action="store_true", help="run the Triton kernels on the CPU, tiny, to cover every branch"
    )
    parser.add_argument("--ops", nargs="+", help="default: all")
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_kernels.json"))
    arguments = parser.parse_args()
    if arguments.interpret:
        os.environ["TRITON_INTERPRET"] = "1"  # before triton is imported

    import torch

    from sparse_circuits.kernels.backend import OPS, Backend, use_backend
    from sparse_circuits.kernels.bench import Size, copy_bandwidth, processor

    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    size = Size.dry if arguments.interpret else Size.gpu if device.type == "cuda" else Size.cpu
    torch.manual_seed(0)
    bandwidth = copy_bandwidth(device, n_bytes=(1 << 32) if size is Size.gpu else (1 << 28) if size is Size.cpu else (1 << 16))
    backend = Backend.triton if arguments.interpret else Backend.auto
    with use_backend(backend):
        rows = list(measure(arguments.ops or OPS, device, size, bandwidth=bandwidth, repeats=arguments.repeats))
    about = {
        "date": date.today().isoformat(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "python": platform.python_version(), "triton": triton_version()},
        "copy_bytes_per_second": bandwidth,
        "dry": arguments.interpret,
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"about": about, "rows": rows}, indent=2) + "\n")
    show(about, rows)


def measure(ops, device, size, *, bandwidth: float, repeats: int) -> Iterator[dict[str, object]]:
    """Check and time every op at every shape; what one shape held is given back before the next."""
    from sparse_circuits.kernels.bench import time_in_turn

    for op in ops:
        for bench in import_module(f"sparse_circuits.kernels.{op}.benchmark").benches(device, size):
            bench.check()
            timings = time_in_turn({"ours": bench.ours, **bench.peers}, device, repeats=repeats, before=bench.before)
            floor = bench.bytes_moved / bandwidth
            ours = timings.pop("ours")
            yield {
                "op": bench.op,
                "shape": bench.shape,
                "floor_seconds": floor,
                "ours": asdict(ours),
                "times_floor": ours.median / floor,
                "peers": {name: {**asdict(peer), "ratio": peer.median / ours.median} for name, peer in timings.items()},
            }
            del bench
            gc.collect()


def show(about: dict[str, object], rows: list[dict[str, object]]) -> None:
    """Print the table: our time, how many floors that is, and how many times longer each peer takes."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    title = "dry run: every branch ran and was right; the times mean nothing" if about["dry"] else about["device"]
    table = Table(title=str(title), box=SIMPLE_HEAD)
    for name in ("op", "shape", "ms", "floors", "peers, times ours"):
        table.add_column(name, justify="right" if name in ("ms", "floors") else "left")
    for row in rows:
        peers = "\n".join(f"{peer['ratio']:.2f} {name}" for name, peer in row["peers"].items())
        table.add_row(row["op"], row["shape"], f"{row['ours']['median'] * 1e3:.3f}", f"{row['times_floor']:.2f}", peers)
    Console(width=120).print(table)


def triton_version() -> str | None:
    try:
        return import_module("triton").__version__
    except ImportError:
        return None


if __name__ == "__main__":
    main()
