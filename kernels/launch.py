"""How an op is spread over the machine: row blocks that fit a core's cache, and the threads that share them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

BLOCK_BYTES = 1 << 18
Block = TypeVar("Block")


def row_blocks(n_rows: int, width: int, itemsize: int) -> list[slice]:
    """Cut a matrix's rows into blocks of about 256 KB, and into no fewer blocks than there are threads."""
    per_thread = -(-n_rows // torch.get_num_threads())
    size = max(1, min(per_thread, BLOCK_BYTES // (width * itemsize)))
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def thread_map(work: Callable[[Block], None], blocks: Iterable[Block]) -> None:
    """Run `work` on every block with as many threads as torch uses; NumPy releases the interpreter's lock inside."""
    blocks = list(blocks)
    n_threads = min(torch.get_num_threads(), len(blocks))
    if n_threads <= 1:
        for block in blocks:
            work(block)
        return
    # Thread t takes blocks t, t + n, ...: one task a thread, since waking a thread costs as much as a small block.
    shares = [blocks[start::n_threads] for start in range(n_threads)]
    for finished in _pool(os.getpid(), n_threads).map(lambda share: [work(block) for block in share], shares):
        del finished


@cache
def _pool(process: int, n_threads: int) -> ThreadPoolExecutor:
    """One pool a process: threads do not survive a fork."""
    return ThreadPoolExecutor(n_threads, thread_name_prefix="sparse-circuits")
