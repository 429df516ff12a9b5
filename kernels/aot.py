"""Compile every kernel, in every launch configuration, for GPUs that are not there.

    python -m sparse_circuits.kernels.aot

Triton and the ptxas it brings need no device to compile, so what a kernel takes of a GPU (registers, spills, shared memory)
and whether its loads are 16 bytes wide can be read on any machine.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sparse_circuits.kernels.backend import OPS

TARGETS = {
    "cuda 80": ("cuda", 80, 32),
    "cuda 90": ("cuda", 90, 32),
    "cuda 100": ("cuda", 100, 32),
    "gfx942": ("hip", "gfx942", 64),
}
# Bytes of shared memory that one program may take.
SHARED_LIMIT = {"cuda 80": 163 << 10, "cuda 90": 227 << 10, "cuda 100": 227 << 10, "gfx942": 64 << 10}


@dataclass(frozen=True)
class Case:
    """One launch configuration of one kernel."""

    name: str
    """What a row of the table calls it, such as `abs_topk bf16 2048`."""
    kernel: Any
    """The function under `triton.jit`."""
    arguments: dict[str, Any]
    """For every parameter the value of a constant, or the type of a tensor or number: `*bf16:16` (aligned), `i32`, `fp32`."""
    num_warps: int
    num_stages: int = 3
    wide_loads: bool = False
    """Whether the rows allow loads and stores of 16 bytes, so that there must be some."""


@dataclass(frozen=True)
class Compiled:
    """What one case takes of one GPU."""

    name: str
    target: str
    registers: int
    """Registers of one thread."""
    spills: int
    """Bytes (cuda) or registers (gfx942) of one thread that did not fit and went to memory."""
    shared: int
    """Bytes of shared memory of one program."""
    wide_loads: bool
    """Whether some loads and some stores are 16 bytes wide."""


def all_cases(ops: Sequence[str] = OPS) -> Iterator[Case]:
    """Yield every launch configuration of every op."""
    for op in ops:
        yield from import_module(f"sparse_circuits.kernels.{op}.gpu").aot_cases()


def compile_case(case: Case, target: str) -> Compiled:
    """Compile one case for one of TARGETS and read what it takes."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature, constants, attributes = {}, {}, {}
    for index, name in enumerate(case.kernel.arg_names):
        value = case.arguments[name]
        if not _is_type(value):
            signature[name], constants[(index,)] = "constexpr", value
            continue
        signature[name], _, divisor = value.partition(":")
        if divisor:
            attributes[(index,)] = [["tt.divisibility", int(divisor)]]
    source = ASTSource(case.kernel, signature, constants, attributes)
    options = {"num_warps": case.num_warps, "num_stages": case.num_stages}
    built = triton.compile(source, target=GPUTarget(*TARGETS[target]), options=options)
    registers, spills = (_read_hip if target == "gfx942" else _read_cuda)(built)
    text = built.asm.get("ptx") or built.asm["amdgcn"]
    wide = r"ld\.global\S*\.v4\.b32[\s\S]*st\.global\S*\.v4\.b32" if "ptx" in built.asm else r"load_dwordx4[\s\S]*store_dwordx4"
    return Compiled(case.name, target, registers, spills, built.metadata.shared, re.search(wide, text) is not None)


def _is_type(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\*?(i|u|fp|bf)\d+(:\d+)?", value) is not None


def _read_cuda(built: Any) -> tuple[int, int]:
    import triton

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(built.asm["cubin"])

        def ask(what: str) -> str:
            command = [triton.knobs.nvidia.cuobjdump.path, what, str(file)]
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout

        usage = ask("-res-usage")
        stack = _number(r"STACK:(\d+)", usage) + _number(r"LOCAL:(\d+)", usage)
        # A frame may be reserved and never touched: only loads from and stores to local memory are spills.
        touched = stack and re.search(r"\b(LDL|STL)\b", ask("-sass"))
    return _number(r"REG:(\d+)", usage), stack if touched else 0


def _read_hip(built: Any) -> tuple[int, int]:
    text = built.asm["amdgcn"]
    spills = _number(r"\.vgpr_spill_count:\s*(\d+)", text) + _number(r"\.sgpr_spill_count:\s*(\d+)", text)
    return _number(r"\.vgpr_count:\s*(\d+)", text), spills


def _number(pattern: str, text: str) -> int:
    return int(re.search(pattern, text)[1])


def type_of(dtype: Any, *, pointer: bool = False) -> str:
    """Return Triton's word for a torch dtype, or for a 16-byte aligned tensor of it."""
    word = {"torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float32": "fp32", "torch.float64": "fp64"}[str(dtype)]
    return f"*{word}:16" if pointer else word


def compile_all(targets: Sequence[str], *, ops: Sequence[str] = OPS, only: str = "", n_processes: int = 2) -> list[Compiled]:
    """Compile every case of the ops whose name contains `only`, for every target, in processes side by side."""
    # A kernel cannot be sent to another process, so each process makes the list again and is told a number.
    work = [(ops, n, target) for n, case in enumerate(all_cases(ops)) if only in case.name for target in targets]
    with ProcessPoolExecutor(n_processes, mp_context=get_context("spawn")) as pool:
        return list(pool.map(_compile_numbered, work, chunksize=4))


def _compile_numbered(work: tuple[Sequence[str], int, str]) -> Compiled:
    ops, number, target = work
    os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")  # what a launch does; unset, newer versions warn
    return compile_case(list(all_cases(ops))[number], target)


def faults(rows: Iterable[Compiled], wide: Collection[str]) -> list[str]:
    """Return a sentence for every row that breaks the house's law.

    Args:
        rows: what was compiled.
        wide: the names of the cases whose rows allow 16-byte loads.
    """
    found = []
    for row in rows:
        if row.target == "cuda 90" and row.spills:
            found.append(f"{row.name} spills {row.spills} bytes a thread on {row.target}")
        if row.shared > SHARED_LIMIT[row.target]:
            found.append(f"{row.name} takes {row.shared} bytes of shared memory on {row.target}")
        if row.target == "cuda 90" and row.name in wide and not row.wide_loads:
            found.append(f"{row.name} loads or stores less than 16 bytes at once on {row.target}")
    return found


def table(rows: Sequence[Compiled], targets: Sequence[str]) -> str:
    """Return one line a case: registers / spilled bytes / bytes of shared memory on every target."""
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(row.name, {})[row.target] = f"{row.registers} / {row.spills} / {row.shared}"
    width = max(map(len, cells), default=0)
    lines = [f"{'registers / spills / shared memory':{width}}  " + "  ".join(f"{target:>18}" for target in targets)]
    lines += [f"{name:{width}}  " + "  ".join(f"{found[t]:>18}" for t in targets) for name, found in cells.items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--ops", nargs="+", default=list(OPS), choices=list(OPS))
    parser.add_argument("--only", default="", help="part of the names of the cases to compile")
    arguments = parser.parse_args()
    rows = compile_all(arguments.targets, ops=arguments.ops, only=arguments.only)
    print(table(rows, arguments.targets))
    found = faults(rows, {case.name for case in all_cases(arguments.ops) if case.wide_loads})
    print("\n".join(found) or f"{len(rows)} kernels compiled: no spills on cuda 90, shared memory within the limits.")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
