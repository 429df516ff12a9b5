"""The house's law: imports run one way, importing does nothing, and a wrong shape is caught while tests run."""

import ast
import subprocess
import sys
from pathlib import Path

import jaxtyping
import pytest
import torch

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sparse_circuits"
EVERYONE = {"shapes", "run", "errors", "plain"}
# For each room the rooms whose values it may take; rooms side by side do not see each other.
MAY_IMPORT = {
    "kernels": {"kernels"},
    "data": {"data", "kernels"},
    "model": {"model", "kernels"},
    "sparsity": {"sparsity", "model", "data", "kernels"},
    "training": {"training", "sparsity", "model", "data", "kernels"},
    "tasks": {"tasks", "sparsity", "model", "data", "kernels"},
    "bridges": {"bridges", "tasks", "training", "sparsity", "model", "data", "kernels"},
    "circuits": {"circuits", "tasks", "training", "sparsity", "model", "data", "kernels"},
    "diffs": {"diffs", "circuits", "bridges", "tasks", "training", "sparsity", "model", "data", "kernels"},
}
MAY_IMPORT["report"] = MAY_IMPORT["diffs"] | {"report"}
MAY_IMPORT["interop"] = MAY_IMPORT["diffs"] | {"interop"}
MAY_IMPORT["pretrained"] = MAY_IMPORT["circuits"] | {"circuits", "pretrained"}
MAY_IMPORT["conf"] = MAY_IMPORT["report"] | {"conf", "interop"}
for room in ("walk", "subject", "summary", "cli"):
    MAY_IMPORT[room] = MAY_IMPORT["conf"] | {"walk", "subject", "summary", "cli", "pretrained"}


def imported_parts(file: Path, prefix: str = "sparse_circuits.") -> set[str]:
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
    return {name.removeprefix(prefix).split(".")[0] for name in names if name.startswith(prefix)}


def files_of(room: str) -> list[Path]:
    file = PACKAGE / f"{room}.py"
    return [file] if file.exists() else sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_run_one_way(room: str) -> None:
    files = files_of(room)
    assert files
    allowed = MAY_IMPORT[room] | (set() if room == "kernels" else EVERYONE)
    for file in files:
        assert imported_parts(file) <= allowed, file


def test_every_room_is_under_the_law() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if path.is_dir() or path.suffix == ".py"} - {"__init__", "__pycache__"}
    assert rooms == MAY_IMPORT.keys() | EVERYONE


def test_what_finds_a_circuit_never_sees_what_judges_it() -> None:
    circuits = PACKAGE / "circuits"
    inner = {path.name for path in circuits.iterdir() if path.is_dir()} - {"__pycache__"}
    assert inner == {"discovery", "evidence", "measures", "attacks"}
    may_import = {room: {room} for room in inner} | {"evidence": {"evidence", "discovery"}}
    for room in inner:
        for file in (circuits / room).rglob("*.py"):
            assert imported_parts(file, "sparse_circuits.circuits.") & inner <= may_import[room], file
    for file in set(circuits.glob("*.py")) - {circuits / "__init__.py", circuits / "extract.py"}:
        assert not imported_parts(file, "sparse_circuits.circuits.") & inner, file


def test_a_room_has_no_drawer_for_everything() -> None:
    banned = {"utils", "util", "helpers", "common", "misc"}
    assert not [path for path in PACKAGE.rglob("*.py") if banned & set(path.relative_to(PACKAGE).with_suffix("").parts)]


@pytest.mark.parametrize(
    "gate", [("wandb", "training/track.py"), ("datasets", "data/"), ("transformers", "model/hugging_face.py")]
)
def test_third_parties_enter_by_one_gate(gate: tuple[str, str]) -> None:
    package, door = gate
    for file in PACKAGE.rglob("*.py"):
        is_for_others = file.name == "modeling_sparse_circuits.py"  # copied into exported folders, never imported here
        if not is_for_others and not str(file.relative_to(PACKAGE)).startswith(door):
            nodes = list(ast.walk(ast.parse(file.read_text())))
            names = [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
            names += [n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module]
            assert package not in {name.split(".")[0] for name in names}, file


@pytest.mark.parametrize(
    ("work", "heavy"),
    [
        ("sparse_circuits.cli.main(['--help'])", "torch hydra rich"),
        ("import sparse_circuits.walk.verbs, sparse_circuits.conf", "sklearn scipy matplotlib transformers datasets optuna"),
    ],
)
def test_what_is_heavy_is_imported_where_it_is_needed(work: str, heavy: str) -> None:
    code = f"import sys, sparse_circuits.cli; {work}; print(sorted(set({heavy.split()}) & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]"), out


def test_a_bare_import_of_kernels_finds_no_package_of_ours() -> None:
    assert not (ROOT / "kernels" / "__init__.py").exists()


def test_wrong_shapes_are_caught_while_tests_run() -> None:
    from sparse_circuits.kernels.next_token_loss import next_token_loss

    with pytest.raises(jaxtyping.TypeCheckError):
        next_token_loss(torch.zeros(3, 4), torch.zeros(5, 6), torch.zeros(3, dtype=torch.long))


def test_readme_names_every_room() -> None:
    text = (ROOT / "README.md").read_text()
    for room in MAY_IMPORT:
        assert f"{room}" in text, room
