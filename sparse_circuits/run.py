"""What a process knows about itself, and how it writes files so that a crash leaves the old ones whole."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from enum import Enum
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

import torch
from safetensors import SafetensorError

from sparse_circuits.errors import UserError
from sparse_circuits.kernels.backend import Backend, resolve_backend


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary neighbour of `path` to write (file or folder), renamed over `path` only on success.

    Raises:
        UserError: the file system refused (disk full, no permission); what stood at `path` is untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _finish(temporary)
        if path.is_dir():  # a rename cannot replace a full folder
            shutil.rmtree(path)
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:  # the latter is all that safetensors says of a full disk
        why = getattr(error, "strerror", None) or error
        raise UserError(f"Could not write {path} ({why}): free space or choose another folder.") from error
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with suppress(OSError):  # nothing was written, or nowhere
                temporary.unlink()


def _finish(path: Path) -> None:
    """Make every file readable to whom the umask lets, and force it to disk, so that the rename never outruns the data."""
    mask = os.umask(0o077)  # it can be read only by setting it
    os.umask(mask)
    for file in [path, *path.rglob("*")] if path.is_dir() else [path]:
        if file.is_file():
            file.chmod(stat.S_IMODE(file.stat().st_mode) | (0o666 & ~mask))  # safetensors gives its files to their owner alone
            with open(file, "rb") as stream:
                os.fsync(stream.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        UserError: the file is missing or is no JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist: check the path, or run the step that writes it.") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): restore it or rerun the step that writes it.") from error


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class Device(Enum):
    """Where tensors live; auto takes the first of cuda (CUDA or ROCm), mps and cpu that is there."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(Enum):
    """The forward pass's dtype; auto takes bf16 where the processor multiplies it natively, else float32."""

    auto = "auto"
    bf16 = "bf16"
    float32 = "float32"


Autocast = Callable[[], AbstractContextManager[Any]]


def choose_device(wanted: Device) -> torch.device:
    """Return the torch device; of several GPUs it is this process's own, and becomes the current one, where Triton launches.

    Raises:
        UserError: the device asked for is not there, or torchrun started more processes than there are GPUs.
    """
    present = {Device.cuda: torch.cuda.is_available(), Device.mps: torch.backends.mps.is_available(), Device.cpu: True}
    if wanted is Device.auto:
        wanted = next(device for device, is_there in present.items() if is_there)
    if not present[wanted]:
        raise UserError(f"device={wanted.name} was asked for, but this machine has none: use device=cpu or device=auto.")
    if wanted is not Device.cuda:
        return torch.device(wanted.name)
    own, n_devices = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if own >= n_devices:
        raise UserError(f"Process {own + 1} of this machine has no GPU of its own: give torchrun --nproc-per-node={n_devices}.")
    torch.cuda.set_device(own)
    return torch.device("cuda", own)


def choose_backend(wanted: Backend, device: torch.device) -> Backend:
    """Return the kernels' implementation on this device.

    Raises:
        UserError: the one asked for does not run there.
    """
    try:
        return resolve_backend(wanted, device)
    except ValueError as error:
        raise UserError(str(error)) from error


def choose_autocast(wanted: Precision, device: torch.device) -> Autocast:
    """Return a maker of the context in which forward passes run."""
    native = {"cuda": lambda: torch.cuda.is_bf16_supported(including_emulation=False), "cpu": cpu_has_bf16}
    if wanted is Precision.bf16 or (wanted is Precision.auto and native.get(device.type, lambda: False)()):
        return partial(torch.autocast, device.type, dtype=torch.bfloat16)
    return nullcontext


def cpu_has_bf16() -> bool:
    """Whether this processor multiplies bf16 natively (AVX512-BF16 or AMX); torch offers the probes as private names."""
    probes = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(probe is not None and probe() for probe in probes)


def rank() -> int:
    """Return this process's number among those that torchrun started; 0 alone."""
    return int(os.environ.get("RANK", 0))


def world_size() -> int:
    """Return how many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes when started by torchrun, and leave them at the end; alone, do nothing."""
    if "WORLD_SIZE" not in os.environ or torch.distributed.is_initialized():
        yield
        return
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
        torch.distributed.barrier()  # none leaves while the first still writes
    finally:
        torch.distributed.destroy_process_group()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs out of a run folder while this process works there; its lock goes with it, however it ends.

    Raises:
        UserError: another run is at work there, or the folder cannot be written.
    """
    if fcntl is None or rank() > 0:
        yield
        return
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(folder / ".lock", "w"))
        except OSError as error:
            raise UserError(f"Could not write {folder} ({error.strerror}): free space or choose another folder.") from error
        if not _is_ours(lock):
            raise UserError(f"Another run is at work in {folder}: wait for its end, or choose another run folder.")
        yield


def _is_ours(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return True
    return True


def check_run_folder(folder: Path, *, config: Any, resume: bool) -> None:
    """Refuse a run folder that would be overwritten, or resumed with other settings; what it did not record is not compared.

    Raises:
        UserError: the folder holds a run already and `resume` is false, or it was begun with another config.
    """
    if not (folder / "run.json").exists():
        return
    if not resume:
        raise UserError(f"{folder} already holds a run: go on with resume=true, or choose another run folder.")
    before = read_json(folder / "run.json")["config"]
    if changed := sorted(key for key in before if before[key] != config.get(key)):
        raise UserError(f"{folder} was begun with other settings ({', '.join(changed)}): resume with the same ones.")


def explanation(folder: Path, *, config: Any, device: torch.device, backend: Backend) -> dict[str, Any]:
    """Return what a run's run.json says of it, or is to say: resolved config, what it runs on, versions, git commit."""
    if (folder / "run.json").exists():
        return read_json(folder / "run.json")
    machine = {"device": device.type, "kernels": backend.name}
    return {"config": config, "machine": machine, "versions": versions(), "git": git_commit()}


def versions() -> dict[str, str]:
    """Return the versions that a result depends on."""
    packages = ("torch", "triton", "numpy", "tokenizers", "safetensors", "sparse-circuits")
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for package in packages:
        with suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def git_commit() -> str | None:
    """Return the commit of the checkout this code runs from, or None outside one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
