"""A study's results: one JSON line for every finished cell, so that what is there is not run again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


class Cells:
    """The finished cells of a study.

    Args:
        path: a file of one JSON object a line, made with the first.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def get(self, **key: Any) -> dict[str, Any] | None:
        """Return the finished cell of this key, or None."""
        return next((row for row in self.rows if key.items() <= row.items()), None)

    def run(self, work: Callable[[], dict[str, Any]], **key: Any) -> dict[str, Any]:
        """Return the finished cell of this key; where there is none, do the work, add its key and seconds, and keep it."""
        if found := self.get(**key):
            return found
        started = time.monotonic()
        row = {**key, **work(), "seconds": round(time.monotonic() - started, 1)}
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row)[:300], flush=True)
        return row
