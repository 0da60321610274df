"""The threads that a store's disk work runs in, under cancellation.

Not `aiofiles`: a cancelled call of its leaves the thread behind with the descriptor, or drops a
file that was just opened; it closes in the event loop's own pool; and each of its calls is a thread
hop where opening, checking and reading a blob is one.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import TypeVar

BUFFER_BYTES = 1 << 20  # one thread hop per MiB costs under 1 % of what hashing it costs

T = TypeVar("T")


class Threads:
    """Runs blocking work in a bounded number of threads of its own.

    The work always runs to its end, and a cancelled caller waits for that end. Otherwise the
    caller would close a descriptor that a thread still writes to, and the next file to get that
    number would receive the bytes.
    """

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    async def run(
        self, work: Callable[[], T], *, discard: Callable[[T], object] | None = None
    ) -> T:
        """Return work(); if the caller was cancelled meanwhile, discard(its result) instead."""
        future = asyncio.get_running_loop().run_in_executor(self._executor(), work)
        cancelled: asyncio.CancelledError | None = None
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is None:
            return future.result()
        if future.exception() is None and discard is not None:
            discard(future.result())
        raise cancelled

    def close(self) -> None:
        """Let the threads end once their work is done."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and self._pid == os.getpid():
            pool.shutdown()

    def _executor(self) -> ThreadPoolExecutor:
        """Return this process's pool: threads do not survive a fork."""
        with self._lock:
            if self._pool is None or self._pid != os.getpid():
                self._pool = ThreadPoolExecutor(self._max_threads, thread_name_prefix="blobs")
                self._pid = os.getpid()
            return self._pool
