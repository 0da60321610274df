"""The threads for a store's disk work, safe under cancellation.

`aiofiles` is not used for three reasons. A cancelled call leaves its thread running with the
descriptor, or loses a file that was just opened. It closes files in the event loop's own pool. Each
call is a thread hop, while opening, checking and reading a blob needs only one here.
"""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Lock
from typing import Any, TypeVar

BUFFER_BYTES = 1 << 20  # one thread hop per MiB costs under 1 % of what hashing it costs

T = TypeVar("T")


class Threads:
    """Runs blocking work in a bounded number of threads of its own.

    The work always runs to its end, and a cancelled caller waits for that end. Otherwise the caller
    would close a descriptor to which a thread still writes. The next opened file would get the same
    number, and the bytes.
    """

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._lock = Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._pid = 0

    async def run(
        self, work: Callable[[], T], *, discard: Callable[[T], object] | None = None
    ) -> T:
        """Return work(). If the caller is cancelled meanwhile, call discard with the result."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        # Not `run_in_executor`: its two linked futures cost more CPU than most of the work.
        self._executor().submit(_call, work, future)
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
        """Wait for running work, then end the threads."""
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


def _call(work: Callable[[], T], future: asyncio.Future[T]) -> None:
    """Pass the outcome of work() to the event loop that waits for it. In a thread."""
    error: BaseException | None = None
    result: T | None = None
    try:
        result = work()
    except BaseException as raised:
        error = raised
    with suppress(RuntimeError):  # the loop has ended: nobody waits any more
        future.get_loop().call_soon_threadsafe(_set, future, error, result)


def _set(future: asyncio.Future[Any], error: BaseException | None, result: object) -> None:
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
