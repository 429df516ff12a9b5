"""One worker for a model: pieces of work in a row of bounded length, each bounded in time, cancelled between forward passes."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Lock
from typing import TypeVar

from sparse_circuits.errors import UserError
from sparse_circuits.report.server.live import Proceed

Result = TypeVar("Result")


class Busy(UserError):
    """Too much is waiting already."""


class Cancelled(UserError):
    """Nobody waits for it any more."""


class OutOfTime(UserError):
    """It took too long."""


class Worker:
    """Does one piece of work after the other.

    Args:
        n_waiting: pieces that may wait behind the one in progress.
        seconds: how long a piece may take once it is begun; it is stopped before its next forward pass.
    """

    def __init__(self, *, n_waiting: int = 8, seconds: float = 30.0) -> None:
        self.n_waiting, self.seconds = n_waiting, seconds
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._asked: list[_Piece] = []
        self._lock = Lock()

    def do(self, work: Callable[[Proceed], Result]) -> Result:
        """Return what the work returns, once its turn has come.

        Args:
            work: takes what it has to call before every forward pass.

        Raises:
            UserError: too much is waiting, it was cancelled, or it took too long.
        """
        piece = _Piece(self.seconds)
        with self._lock:
            if len(self._asked) > self.n_waiting:
                raise Busy(f"{self.n_waiting} requests are waiting for the model: wait for one of them, or cancel them.")
            self._asked.append(piece)
            future = self._thread.submit(piece.run, work)
        try:
            return future.result()
        finally:
            with self._lock:
                self._asked.remove(piece)

    def cancel(self) -> int:
        """Cancel what is in progress and what waits, and return how many pieces that was."""
        with self._lock:
            pieces = list(self._asked)
        for piece in pieces:
            piece.unwanted.set()
        return len(pieces)

    def close(self) -> None:
        """Cancel everything, and wait for the forward pass in progress."""
        self.cancel()
        self._thread.shutdown()


class _Piece:
    """A piece of work, and whether to go on with it."""

    def __init__(self, seconds: float) -> None:
        self.unwanted = Event()
        self._seconds = seconds
        self._until = float("inf")

    def run(self, work: Callable[[Proceed], Result]) -> Result:
        self._until = time.monotonic() + self._seconds
        self.proceed()
        return work(self.proceed)

    def proceed(self) -> None:
        if self.unwanted.is_set():
            raise Cancelled("Cancelled: ask again.")
        if time.monotonic() > self._until:
            raise OutOfTime(f"This took longer than {self._seconds:g} seconds: shorten the prompt.")
