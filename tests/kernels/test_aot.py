"""Kernels are compiled for GPUs that are not there: nothing spills, shared memory suffices, loads are wide."""

import os
import subprocess
import sys

import pytest

pytest.importorskip("triton", reason="Triton is there on Linux only")

from sparse_circuits.kernels.aot import SHARED_LIMIT, Compiled, faults


def compiled(**changes: object) -> Compiled:
    return Compiled(
        **{"name": "op bf16", "target": "cuda 90", "registers": 64, "spills": 0, "shared": 0, "wide_loads": True} | changes
    )


def test_bf16_kernels_compile_for_cuda_90_without_spills() -> None:
    # In a process of its own: here the kernels are the interpreter's. The full table is the continuous integration's.
    command = [sys.executable, "-m", "sparse_circuits.kernels.aot", "--targets", "cuda 90", "--only", "bf16"]
    done = subprocess.run(command, capture_output=True, text=True, env=without_interpreter())
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no spills on cuda 90" in done.stdout


def without_interpreter() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"spills": 8}, "spills 8 bytes"),
        ({"shared": SHARED_LIMIT["cuda 90"] + 1}, "of shared memory on cuda 90"),
        ({"target": "gfx942", "shared": SHARED_LIMIT["gfx942"] + 1}, "of shared memory on gfx942"),
        ({"wide_loads": False}, "less than 16 bytes"),
    ],
)
def test_every_breach_has_its_sentence(changes: dict[str, object], says: str) -> None:
    assert faults([compiled()], {"op bf16"}) == []
    (sentence,) = faults([compiled(**changes)], {"op bf16"})
    assert says in sentence


def test_what_is_allowed_elsewhere() -> None:
    assert faults([compiled(target="gfx942", spills=4), compiled(wide_loads=False)], set()) == []
