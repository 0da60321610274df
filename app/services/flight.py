"""Single flight: concurrent callers with the same key share one task and its result.

No caller owns the task: a cancelled caller, even the first one, cancels nothing for the others.
After the last caller has gone, the task still runs to its end, so that the work is not lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from app import tracing
from app.core.errors import OverloadedError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flight(Generic[K, V]):
    """One running task per key.

    Args:
        max_waiters: callers per key; one more gets OverloadedError.
        max_keys: running tasks; one more key gets OverloadedError.
    """

    def __init__(self, *, max_waiters: int = 1000, max_keys: int = 256) -> None:
        self._max_waiters = max_waiters
        self._max_keys = max_keys
        self._tasks: dict[K, asyncio.Task[V]] = {}
        self._waiters: dict[K, int] = {}
        self._ahead: set[K] = set()

    async def do(self, key: K, work: Callable[[], Awaitable[V]], *, is_ahead: bool = False) -> V:
        """Return the result of the task for key; start work() if no task runs for key.

        Args:
            key: identifies the result.
            work: makes the result.
            is_ahead: the work runs ahead of requests. Its task does not count against max_keys, and
                is not started while half of the keys are in use.

        Raises:
            OverloadedError: too many callers wait, or too many tasks run.
            Exception: the error of work(), for every caller.
        """
        with tracing.span("single flight", moorage__joined=key in self._tasks):
            return await self._joined(key, work, is_ahead=is_ahead)

    async def _joined(self, key: K, work: Callable[[], Awaitable[V]], *, is_ahead: bool) -> V:
        task = self._tasks.get(key)
        if task is None:
            requested = len(self._tasks) - len(self._ahead)
            if is_ahead and 2 * len(self._tasks) >= self._max_keys:
                raise OverloadedError("too much is under way to fetch ahead")
            if requested >= self._max_keys:
                raise OverloadedError(f"{self._max_keys} other fetches are under way; try again")
            task = asyncio.ensure_future(self._run(key, work))
            task.add_done_callback(_retrieve_error)
            self._tasks[key] = task
            if is_ahead:
                self._ahead.add(key)
        if self._waiters.get(key, 0) >= self._max_waiters:
            raise OverloadedError(f"{self._max_waiters} others wait for the same file; try again")
        self._waiters[key] = self._waiters.get(key, 0) + 1
        try:
            return await asyncio.shield(task)
        finally:
            self._waiters[key] -= 1
            if not self._waiters[key]:
                del self._waiters[key]

    def is_running(self, key: K) -> bool:
        """Whether a task runs for key."""
        return key in self._tasks

    async def _run(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        try:
            return await work()
        finally:
            del self._tasks[key]
            self._ahead.discard(key)

    async def drain(self, drain_s: float) -> None:
        """Wait drain_s seconds for the running tasks, then cancel the rest."""
        try:
            async with asyncio.timeout(drain_s):
                await self.aclose(cancel=False)
        except TimeoutError:
            await self.aclose(cancel=True)

    async def aclose(self, *, cancel: bool) -> None:
        """Wait for the running tasks; with cancel, cancel them first."""
        tasks = list(self._tasks.values())
        if cancel:
            for task in tasks:
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _retrieve_error(task: asyncio.Task[V]) -> None:
    """Retrieve the error of a task without callers: otherwise asyncio logs it."""
    if not task.cancelled():
        task.exception()
