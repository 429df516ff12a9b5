"""Files of torch's pickling, read as tensors and plain values alone."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from sparse_circuits.errors import UserError


def load_safely(path: Path) -> Any:
    """Read a file of torch's that holds tensors and plain values; nothing in it is run.

    Raises:
        UserError: the file is missing, damaged, or holds code.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist: check the path, or get the file.")
    try:
        with warnings.catch_warnings(action="ignore"):  # of what is refused anyhow
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, TypeError) as error:
        first = str(error).strip().partition("\n")[0]
        raise UserError(f"{path} is damaged or holds more than tensors ({first}): download it again.") from error
