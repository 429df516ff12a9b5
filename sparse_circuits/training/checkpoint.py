"""Checkpoints: one self-checking file each, from which a killed run goes on to the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from sparse_circuits.model.store import read_tensors, write_tensors


@runtime_checkable
class Resumable(Protocol):
    """A step whose tensors can be kept and put back."""

    def tensors(self) -> dict[str, Tensor]: ...

    def load_tensors(self, held: dict[str, Tensor]) -> None: ...


@runtime_checkable
class ResumableBatches(Protocol):
    """Batches whose position can be kept and put back."""

    def state(self) -> dict[str, Any]: ...

    def load_state(self, state: dict[str, Any]) -> None: ...


class CheckpointFolder:
    """The checkpoints of one run: step, batches and random state, written atomically, the newest few kept.

    Args:
        folder: where the files go.
        every: steps between checkpoints; 0: only when the loop asks.
        keep: how many to keep.
        writes: whether this process writes (rank 0 does, all read).
    """

    def __init__(self, folder: Path, *, every: int, keep: int, writes: bool = True) -> None:
        self.folder, self.every, self.keep, self.writes = Path(folder), every, keep, writes

    def files(self) -> list[Path]:
        """Return the finished checkpoints, oldest first."""
        return sorted(self.folder.glob("step_*.safetensors"))

    def due(self, done: int) -> bool:
        return bool(self.every) and done % self.every == 0

    def save(self, step: Resumable, batches: ResumableBatches, *, done: int) -> None:
        """Write a checkpoint of everything the rest of the run depends on, then drop the oldest."""
        if not self.writes:
            return
        tensors = {f"step:{name}": tensor for name, tensor in step.tensors().items()} | _random_state()
        path = self.folder / f"step_{done:08d}.safetensors"
        write_tensors(path, tensors, kind="checkpoint", metadata={"done": done, "batches": batches.state()})
        for old in [*self.files()[: -self.keep], *self.unfinished()]:
            old.unlink()

    def unfinished(self) -> list[Path]:
        """Return what killed processes left: our temporary files, and those that safetensors writes beside them."""
        return [*self.folder.glob(".step_*.partial"), *self.folder.glob(".tmp*")]

    def restore(self, step: Resumable, batches: ResumableBatches) -> int:
        """Load the newest checkpoint, if there is one, and return how many steps it had done.

        Raises:
            UserError: the newest checkpoint is damaged; deleting it goes back to the one before.
        """
        if not (files := self.files()):
            return 0
        tensors, metadata = read_tensors(files[-1], kind="checkpoint")
        step.load_tensors({name.removeprefix("step:"): t for name, t in tensors.items() if name.startswith("step:")})
        batches.load_state(metadata["batches"])
        _load_random_state(tensors)
        return metadata["done"]


def _random_state() -> dict[str, Tensor]:
    states = {"random:cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["random:cuda"] = torch.cuda.get_rng_state()
    return states


def _load_random_state(tensors: dict[str, Tensor]) -> None:
    torch.set_rng_state(tensors["random:cpu"])
    if "random:cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["random:cuda"])
