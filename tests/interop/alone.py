"""Exported programs run where neither torch nor this package can be imported."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sparse_circuits.circuits import Circuit
from sparse_circuits.interop import Format, export

RUN = """
import sys
before = {name.partition(".")[0] for name in sys.modules}

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "sparse_circuits"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
for name in ("torch", "sparse_circuits"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} can be imported")

import json, runpy
program = runpy.run_path(sys.argv[1])
found = [program["answer"](*each) for each in json.load(sys.stdin)]
others = {name.partition(".")[0] for name in sys.modules} - before - sys.stdlib_module_names
print(json.dumps({"found": found, "others": sorted(others)}))
"""


def run(program: Path, questions: list[list]) -> list[float]:
    """Return the program's answers, from an interpreter in which only numpy is there."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", RUN, str(program)], input=json.dumps(questions), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert answers["others"] == ["numpy"]
    return answers["found"]


def exported(circuit: Circuit, folder: Path) -> Path:
    return export(circuit, Format.python, folder / "program")[0]
